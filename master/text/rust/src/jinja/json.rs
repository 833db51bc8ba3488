//! JSON: a request's values, and the tojson filter.
use super::args::Args;
use super::dict::Dict;
use super::number::float_repr;
use super::repr::to_str;
use super::value::Value;
use super::{budget, fault, ops, Res};
use std::rc::Rc;

const MAX_INDENT: i128 = 64;

// ---- reading

/// A whole JSON text. Numbers keep their kind: 1 is an integer, 1.0 is none.
pub fn parse(text: &str, max_depth: usize) -> Result<Value, String> {
    let _budget = budget::start(usize::MAX);
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(max_depth)?;
    reader.skip_space();
    if reader.at < text.len() {
        return Err("not valid JSON".into());
    }
    Ok(value)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.text[self.at..].starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn bad<T>(&self) -> Result<T, String> {
        Err(format!("not valid JSON at byte {}", self.at))
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        self.skip_space();
        let said = |value: Res<Value>| value.map_err(|f| f.message.clone());
        match self.text.as_bytes().get(self.at) {
            Some(b'"') => Ok(Value::text(self.string()?)),
            Some(b'[' | b'{') if depth == 0 => Err("nested too deeply".into()),
            Some(b'[') => {
                let mut items = Vec::new();
                self.members("[", "]", |reader| {
                    items.push(reader.value(depth - 1)?);
                    Ok(())
                })?;
                said(Value::list(items))
            }
            Some(b'{') => {
                let mut dict = Dict::default();
                self.members("{", "}", |reader| {
                    reader.skip_space();
                    let key = reader.string()?;
                    reader.skip_space();
                    if !reader.take(":") {
                        return reader.bad();
                    }
                    let value = reader.value(depth - 1)?;
                    dict.insert(Value::text(key), value).map_err(|f| f.message)
                })?;
                Ok(Value::Dict(Rc::new(dict)))
            }
            _ if self.take("true") => Ok(Value::Bool(true)),
            _ if self.take("false") => Ok(Value::Bool(false)),
            _ if self.take("null") => Ok(Value::None),
            _ => self.number(),
        }
    }

    fn members(
        &mut self,
        begin: &str,
        end: &str,
        mut member: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        self.take(begin);
        self.skip_space();
        if self.take(end) {
            return Ok(());
        }
        loop {
            member(self)?;
            self.skip_space();
            if self.take(end) {
                return Ok(());
            }
            if !self.take(",") {
                return self.bad();
            }
        }
    }

    fn number(&mut self) -> Result<Value, String> {
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
            .unwrap_or(rest.len());
        let number = &rest[..end];
        if number.is_empty() {
            return self.bad();
        }
        let value = if number.contains(['.', 'e', 'E']) {
            number.parse().ok().map(Value::Float)
        } else {
            number.parse().ok().map(Value::Int)
        };
        match value {
            Some(value) => {
                self.at += end;
                Ok(value)
            }
            None if number.len() > 38 => Err("an integer is beyond 128 bits".into()),
            None => self.bad(),
        }
    }

    fn unit(&mut self) -> Result<u32, String> {
        let digits = self.text.get(self.at..self.at + 4).unwrap_or("");
        match u32::from_str_radix(digits, 16) {
            Ok(unit) => {
                self.at += 4;
                Ok(unit)
            }
            Err(_) => self.bad(),
        }
    }

    fn string(&mut self) -> Result<String, String> {
        if !self.take("\"") {
            return self.bad();
        }
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(end) = rest.find(['"', '\\']) else {
                return self.bad();
            };
            out.push_str(&rest[..end]);
            self.at += end + 1;
            if rest[end..].starts_with('"') {
                return Ok(out);
            }
            let kind = self.text.as_bytes().get(self.at).copied().unwrap_or(0);
            self.at += 1;
            out.push(match kind {
                b'"' | b'\\' | b'/' => kind as char,
                b'b' => '\x08',
                b'f' => '\x0c',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => {
                    let first = self.unit()?;
                    let code = if (0xd800..0xdc00).contains(&first) && self.take("\\u") {
                        let second = self.unit()?;
                        (second & 0xfc00 == 0xdc00).then(|| 0x10000 + ((first & 0x3ff) << 10) + (second & 0x3ff))
                    } else {
                        Some(first)
                    };
                    match code.and_then(char::from_u32) {
                        Some(c) => c,
                        None => return Err("not valid Unicode: half a surrogate pair".into()),
                    }
                }
                _ => return self.bad(),
            });
        }
    }
}

// ---- writing

struct Style {
    indent: Option<String>,
    ensure_ascii: bool,
    sort_keys: bool,
    item_separator: String,
    key_separator: String,
}

/// Transformers' tojson: json.dumps with ensure_ascii off, and without Jinja2's HTML escapes.
pub fn filter(value: &Value, args: Args) -> Res<Value> {
    let args = args.bind("tojson", &["ensure_ascii", "indent", "separators", "sort_keys"])?;
    let indent = match args.get(1) {
        None | Some(Value::None) => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_string(),
            None => {
                let width = args.int(1)?;
                if width > MAX_INDENT {
                    return fault(format!("tojson: indent is above {MAX_INDENT}"));
                }
                " ".repeat(width.max(0) as usize)
            }
        }),
    };
    let separators = match args.get(2) {
        None | Some(Value::None) => None,
        Some(pair) => Some(pair.items()?),
    };
    let (item, key) = match separators.as_deref() {
        None => (if indent.is_some() { "," } else { ", " }, ": "),
        Some([item, key]) => match (item.as_str(), key.as_str()) {
            (Some(item), Some(key)) => (item, key),
            _ => return fault("tojson: separators takes two strings"),
        },
        Some(_) => return fault("tojson: separators takes two strings"),
    };
    let style = Style {
        indent,
        ensure_ascii: args.truth(0, false),
        sort_keys: args.truth(3, false),
        item_separator: item.into(),
        key_separator: key.into(),
    };
    let mut out = String::new();
    write(&mut out, value, &style, 0)?;
    budget::text(out.len())?;
    Ok(Value::text(out))
}

fn new_line(out: &mut String, style: &Style, depth: usize) {
    if let Some(indent) = &style.indent {
        out.push('\n');
        out.push_str(&indent.repeat(depth));
    }
}

fn float(number: f64) -> String {
    match float_repr(number).as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        other => other.into(),
    }
}

fn write(out: &mut String, value: &Value, style: &Style, depth: usize) -> Res<()> {
    budget::step()?;
    budget::output(out.len())?;
    match value {
        Value::None => out.push_str("null"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::Float(number) => out.push_str(&float(*number)),
        Value::Str(text) | Value::Markup(text) => write_text(out, text, style.ensure_ascii),
        Value::List(seq) | Value::Tuple(seq) => {
            out.push('[');
            for (index, item) in seq.items.iter().enumerate() {
                if index > 0 {
                    out.push_str(&style.item_separator);
                }
                new_line(out, style, depth + 1);
                write(out, item, style, depth + 1)?;
            }
            if !seq.items.is_empty() {
                new_line(out, style, depth);
            }
            out.push(']');
        }
        Value::Dict(dict) => write_dict(out, dict, style, depth)?,
        other => return fault(format!("Object of type {} is not JSON serializable", other.type_name())),
    }
    Ok(())
}

fn write_dict(out: &mut String, dict: &Dict, style: &Style, depth: usize) -> Res<()> {
    let mut members: Vec<_> = dict.iter().collect();
    if style.sort_keys {
        members = ops::sort(members, &mut |(a, _), (b, _)| {
            budget::step()?;
            Ok(ops::order("<", a, b)? == Some(std::cmp::Ordering::Less))
        })?;
    }
    out.push('{');
    for (index, (key, value)) in members.iter().enumerate() {
        if index > 0 {
            out.push_str(&style.item_separator);
        }
        new_line(out, style, depth + 1);
        match key {
            Value::Str(text) | Value::Markup(text) => write_text(out, text, style.ensure_ascii),
            Value::Bool(truth) => out.push_str(if *truth { "\"true\"" } else { "\"false\"" }),
            Value::None => out.push_str("\"null\""),
            Value::Float(number) => out.push_str(&format!("\"{}\"", float(*number))),
            Value::Int(_) => out.push_str(&format!("\"{}\"", to_str(key)?)),
            other => {
                let got = other.type_name();
                return fault(format!("keys must be str, int, float, bool or None, not {got}"));
            }
        }
        out.push_str(&style.key_separator);
        write(out, value, style, depth + 1)?;
    }
    if !members.is_empty() {
        new_line(out, style, depth);
    }
    out.push('}');
    Ok(())
}

fn write_text(out: &mut String, text: &str, ensure_ascii: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if ensure_ascii && (!c.is_ascii() || c == '\x7f') => {
                let mut units = [0u16; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

//! Filters of text.
use super::args::{count, Args, Bound};
use super::format::percent;
use super::html::{escape, unescape};
use super::repr::to_str;
use super::value::Value;
use super::{budget, fault, strings, urlize, wrap, Res};
use regex::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;

pub fn apply(name: &str, value: &Value, args: Args) -> Res<Value> {
    let text = to_str(value)?;
    budget::bytes(text.len())?;
    let none: &[&str] = &[];
    let string = |text: Res<String>| Ok(Value::text(text?));
    match name {
        "upper" | "lower" | "capitalize" => {
            args.bind("filter", none)?;
            strings::call(&text, name, Args::default())
        }
        "title" => string(args.bind("title", none).map(|_| title(&text))),
        "center" => {
            let width = args.bind("center", &["width"])?.maybe_int(0)?.unwrap_or(80);
            string(strings::justify(&text, "center", width, " "))
        }
        "trim" => {
            let args = args.bind("trim", &["chars"])?;
            let given = args.maybe_text(0)?;
            let out = |c: char| given.map_or_else(|| strings::is_space(c), |set| set.contains(c));
            Ok(Value::text(text.trim_matches(out)))
        }
        "replace" => {
            let args = args.bind("replace", &["old", "new", "count"])?;
            let limit = args.maybe_int(2)?.unwrap_or(-1);
            string(strings::replace(
                &text,
                &to_str(args.need(0)?)?,
                &to_str(args.need(1)?)?,
                limit,
            ))
        }
        "wordcount" => {
            args.bind("wordcount", none)?;
            static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_]+").expect("a literal"));
            Ok(Value::Int(WORD.find_iter(&text).count() as i128))
        }
        "wordwrap" => {
            let names = &["width", "break_long_words", "wrapstring", "break_on_hyphens"];
            string(wrap::word_wrap(needs_text(value)?, args.bind("wordwrap", names)?))
        }
        "truncate" => truncate(value, args.bind("truncate", &["length", "killwords", "end", "leeway"])?),
        "indent" => string(indent(value, args.bind("indent", &["width", "first", "blank"])?)),
        "format" => {
            if !args.positional.is_empty() && !args.named.is_empty() {
                return fault("can't handle positional and keyword arguments at the same time");
            }
            if args.named.is_empty() {
                return string(percent(&text, &Value::tuple(args.positional)?));
            }
            let mut dict = super::Dict::default();
            for (name, value) in args.named {
                dict.insert(Value::Str(name), value)?;
            }
            string(percent(&text, &Value::Dict(std::rc::Rc::new(dict))))
        }
        "escape" | "e" => {
            args.bind("escape", none)?;
            Ok(Value::Markup(escape_html(value)?.into()))
        }
        "forceescape" => {
            args.bind("forceescape", none)?;
            budget::text(text.len() * 6)?;
            Ok(Value::Markup(escape(&text).into()))
        }
        "safe" => {
            args.bind("safe", none)?;
            Ok(Value::Markup(text.as_ref().into()))
        }
        "striptags" => string(args.bind("striptags", none).map(|_| strip_tags(&text))),
        "urlencode" => string(args.bind("urlencode", none).and_then(|_| url_encode(value))),
        "urlize" => {
            let names = &["trim_url_limit", "nofollow", "target", "rel", "extra_schemes"];
            string(urlize::urlize(&text, args.bind("urlize", names)?))
        }
        _ => string(xml_attributes(value, args.bind("xmlattr", &["autospace"])?)),
    }
}

/// HTML of a value: what is HTML already stays.
pub fn escape_html(value: &Value) -> Res<String> {
    let text = to_str(value)?;
    if let Value::Markup(_) = value {
        return Ok(text.into_owned());
    }
    budget::text(text.len())?;
    let out = escape(&text);
    budget::text(out.len())?;
    Ok(out)
}

fn needs_text(value: &Value) -> Res<&str> {
    match value.defined()?.as_str() {
        Some(text) => Ok(text),
        None => fault(format!("'{}' object is not a text", value.type_name())),
    }
}

/// A word begins at the start and after white space, -, (, {, [ and <.
fn title(text: &str) -> String {
    let mut out = String::new();
    let mut begins = true;
    let mut item = String::new();
    let is_break = |c: char| strings::is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    for c in text.chars() {
        if is_break(c) {
            out.push_str(&item.to_lowercase());
            item.clear();
            out.push(c);
            begins = true;
        } else if begins {
            out.extend(c.to_uppercase());
            begins = false;
        } else {
            item.push(c);
        }
    }
    out + &item.to_lowercase()
}

fn truncate(value: &Value, args: Bound) -> Res<Value> {
    let size = value.length()?.unwrap_or(usize::MAX) as i128;
    let end = args.maybe_text(2)?.unwrap_or("...");
    let length = args.maybe_int(0)?.unwrap_or(255);
    let leeway = args.maybe_int(3)?.unwrap_or(5);
    let end_length = end.chars().count();
    if length < end_length as i128 {
        return fault(format!("expected length >= {end_length}, got {length}"));
    }
    if leeway < 0 {
        return fault(format!("expected leeway >= 0, got {leeway}"));
    }
    if size <= length.saturating_add(leeway) {
        return Ok(value.clone());
    }
    let kept: String = needs_text(value)?.chars().take(count(length) - end_length).collect();
    let kept = match (args.truth(1, false), kept.rsplit_once(' ')) {
        (false, Some((words, _))) => words,
        _ => &kept,
    };
    Ok(Value::text(format!("{kept}{end}")))
}

fn indent(value: &Value, args: Bound) -> Res<String> {
    let text = needs_text(value)?;
    let indention: Cow<str> = match args.get(0).map(|w| (w.as_str(), w)) {
        Some((Some(text), _)) => text.into(),
        Some((None, _)) => {
            let width = count(args.int(0)?);
            budget::text(width)?;
            " ".repeat(width).into()
        }
        None => "    ".into(),
    };
    let (first, blank) = (args.truth(1, false), args.truth(2, false));
    let with_end = format!("{text}\n");
    let lines = strings::lines(&with_end, false);
    budget::text(text.len() + lines.len().saturating_mul(indention.len()))?;
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if if index == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(&indention);
        }
        out.push_str(line);
    }
    Ok(out)
}

fn strip_tags(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let end = match rest[start..].starts_with("<!--") {
            true => rest[start + 4..].find("-->").map(|at| start + 4 + at + 3),
            false => rest[start..].find('>').map(|at| start + at + 1),
        };
        let Some(end) = end else { break };
        out.push_str(&rest[..start]);
        rest = &rest[end..];
    }
    out.push_str(rest);
    unescape(
        &out.split(strings::is_space)
            .filter(|w| !w.is_empty())
            .collect::<Vec<_>>()
            .join(" "),
    )
}

fn url_encode(value: &Value) -> Res<String> {
    let pair = |pair: &Value| -> Res<String> {
        match &pair.items()?[..] {
            [key, value] => Ok(format!(
                "{}={}",
                quote(&to_str(key)?, true)?,
                quote(&to_str(value)?, true)?
            )),
            _ => fault("not a pair of a key and a value"),
        }
    };
    match value {
        Value::Dict(dict) => {
            let pairs = dict
                .iter()
                .map(|(k, v)| pair(&Value::tuple(vec![k.clone(), v.clone()])?));
            Ok(pairs.collect::<Res<Vec<_>>>()?.join("&"))
        }
        other if other.as_str().is_some() || !other.is_iterable() => quote(&to_str(other)?, false),
        other => Ok(other.items()?.iter().map(pair).collect::<Res<Vec<_>>>()?.join("&")),
    }
}

fn quote(text: &str, query: bool) -> Res<String> {
    budget::text(text.len().saturating_mul(3))?;
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'.' | b'-' | b'~' => out.push(byte as char),
            b'/' if !query => out.push('/'),
            b' ' if query => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(out)
}

fn xml_attributes(value: &Value, args: Bound) -> Res<String> {
    let Value::Dict(dict) = value.defined()? else {
        return fault(format!("'{} object' has no attribute 'items'", value.type_name()));
    };
    let mut items = Vec::new();
    for (key, value) in dict.iter() {
        if value.is_undefined() || matches!(value, Value::None) {
            continue;
        }
        let name = needs_text(key)?;
        if name.contains(|c: char| c.is_ascii_whitespace() || matches!(c, '\x0b' | '/' | '>' | '=')) {
            return fault(format!("Invalid character in attribute name: '{name}'"));
        }
        items.push(format!("{}=\"{}\"", escape_html(key)?, escape_html(value)?));
    }
    let out = items.join(" ");
    budget::text(out.len())?;
    Ok(match args.truth(0, true) && !out.is_empty() {
        true => format!(" {out}"),
        false => out,
    })
}

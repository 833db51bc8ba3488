//! Template text -> tokens, as Jinja2's lexer cuts it with trim_blocks and lstrip_blocks on.
use super::strings::is_space;
use super::unicode_names;
use super::{fault_at, Res};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Data(Arc<str>),
    BlockBegin,
    BlockEnd,
    VariableBegin,
    VariableEnd,
    Name(String),
    Str(Arc<str>),
    Int(i128),
    Float(f64),
    Op(&'static str),
    End,
}

impl Token {
    pub fn describe(&self) -> String {
        match self {
            Token::Data(_) => "template text".into(),
            Token::BlockBegin => "begin of statement block".into(),
            Token::BlockEnd => "end of statement block".into(),
            Token::VariableBegin => "begin of print statement".into(),
            Token::VariableEnd => "end of print statement".into(),
            Token::Name(name) => format!("'{name}'"),
            Token::Str(_) => "string".into(),
            Token::Int(_) | Token::Float(_) => "number".into(),
            Token::Op(op) => format!("'{op}'"),
            Token::End => "end of template".into(),
        }
    }
}

// Longer ones first.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",", ";",
];

/// CRLF and CR are LF; one newline at the very end is dropped.
fn normalise(source: &str) -> String {
    let mut text = source.replace("\r\n", "\n").replace('\r', "\n");
    if text.ends_with('\n') {
        text.pop();
    }
    text
}

pub fn tokenize(source: &str) -> Res<Vec<(Token, u32)>> {
    let text = normalise(source);
    let mut lexer = Lexer {
        text: &text,
        at: 0,
        line: 1,
        line_starting: true,
        out: Vec::new(),
    };
    lexer.root()?;
    let line = lexer.line;
    lexer.out.push((Token::End, line));
    Ok(lexer.out)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    line_starting: bool,
    out: Vec<(Token, u32)>,
}

fn skip_space(text: &str) -> usize {
    text.len() - text.trim_start_matches(is_space).len()
}

fn sign(text: &str) -> &str {
    if text.starts_with(['-', '+']) {
        &text[..1]
    } else {
        ""
    }
}

/// The length of `{%- raw -%}` (with `word` "raw") at the start of text.
fn raw_begin(text: &str) -> Option<usize> {
    let mut at = 2 + sign(&text[2..]).len();
    at += skip_space(&text[at..]);
    at += text[at..].strip_prefix("raw").map(|_| 3)?;
    at += skip_space(&text[at..]);
    if text[at..].starts_with("%}") {
        return Some(at + 2);
    }
    text[at..]
        .starts_with("-%}")
        .then(|| at + 3 + skip_space(&text[at + 3..]))
}

/// The length of a tag's end at the start of text: `+%}`, `-%}` with the white space after it, `%}` with one newline.
fn tag_end(text: &str, end: &str) -> Option<usize> {
    if let Some(rest) = text.strip_prefix('-') {
        return rest.starts_with(end).then(|| 3 + skip_space(&rest[2..]));
    }
    if text.strip_prefix('+').is_some_and(|rest| rest.starts_with(end)) {
        return Some(3);
    }
    text.starts_with(end)
        .then(|| 2 + usize::from(text[2..].starts_with('\n')))
}

impl<'a> Lexer<'a> {
    fn advance(&mut self, length: usize) -> &'a str {
        let passed = &self.text[self.at..self.at + length];
        self.line += passed.matches('\n').count() as u32;
        self.line_starting = passed.ends_with('\n');
        self.at += length;
        passed
    }

    fn fail<T>(&self, message: impl Into<String>) -> Res<T> {
        fault_at(self.line, message.into())
    }

    /// The text before a tag, less what the tag's sign or lstrip_blocks takes from it.
    fn data(&mut self, length: usize, sign: &str, block: bool) {
        let text = &self.text[self.at..self.at + length];
        let mut kept = text;
        if sign == "-" {
            kept = text.trim_end_matches(is_space);
        } else if sign.is_empty() && block {
            let line = text.rfind('\n').map_or(0, |i| i + 1);
            if (line > 0 || self.line_starting) && text[line..].chars().all(is_space) {
                kept = &text[..line];
            }
        }
        if !kept.is_empty() {
            self.out.push((Token::Data(kept.into()), self.line));
        }
        self.advance(length);
    }

    fn root(&mut self) -> Res<()> {
        loop {
            let rest = &self.text[self.at..];
            let mut from = 0;
            let start = loop {
                match rest[from..].find('{') {
                    None => break None,
                    Some(i) if rest[from + i + 1..].starts_with(['%', '{', '#']) => break Some(from + i),
                    Some(i) => from += i + 1,
                }
            };
            let Some(start) = start else {
                self.data(rest.len(), "+", false);
                return Ok(());
            };
            let tag = &rest[start..];
            let sign = sign(&tag[2..]);
            self.data(start, sign, !tag.starts_with("{{"));
            match &tag[..2] {
                "{#" => self.comment(2 + sign.len())?,
                "{{" => {
                    self.out.push((Token::VariableBegin, self.line));
                    self.advance(2 + sign.len());
                    self.tag(false)?;
                }
                _ => match raw_begin(tag) {
                    Some(length) => self.raw(length)?,
                    None => {
                        self.out.push((Token::BlockBegin, self.line));
                        self.advance(2 + sign.len());
                        self.tag(true)?;
                    }
                },
            }
        }
    }

    fn comment(&mut self, begin: usize) -> Res<()> {
        let rest = &self.text[self.at + begin..];
        let Some(end) = rest.find("#}") else {
            return self.fail("missing end of comment tag");
        };
        let signed = usize::from(rest[..end].ends_with(['-', '+']));
        let length = tag_end(&rest[end - signed..], "#}").unwrap_or(2);
        self.advance(begin + end - signed + length);
        Ok(())
    }

    fn raw(&mut self, begin: usize) -> Res<()> {
        self.advance(begin);
        let rest = &self.text[self.at..];
        for (start, _) in rest.match_indices("{%") {
            let sign = sign(&rest[start + 2..]);
            let mut at = start + 2 + sign.len();
            at += skip_space(&rest[at..]);
            let Some(after) = rest[at..].strip_prefix("endraw") else {
                continue;
            };
            at += 6 + skip_space(after);
            if let Some(end) = tag_end(&rest[at..], "%}") {
                self.data(start, sign, true);
                self.advance(at + end - start);
                return Ok(());
            }
        }
        self.fail("missing end of raw directive")
    }

    /// The inside of {% … %} or {{ … }} and its end.
    fn tag(&mut self, block: bool) -> Res<()> {
        let mut open: Vec<&str> = Vec::new();
        loop {
            let rest = &self.text[self.at..];
            if rest.is_empty() {
                return self.fail("unexpected end of template inside a tag");
            }
            if open.is_empty() {
                let end = if block {
                    tag_end(rest, "%}")
                } else if rest.starts_with("}}") {
                    Some(2)
                } else {
                    rest.strip_prefix("-}}").map(|after| 3 + skip_space(after))
                };
                if let Some(length) = end {
                    let token = if block { Token::BlockEnd } else { Token::VariableEnd };
                    self.out.push((token, self.line));
                    self.advance(length);
                    return Ok(());
                }
            }
            let space = skip_space(rest);
            if space > 0 {
                self.advance(space);
                continue;
            }
            let line = self.line;
            let (token, length) = self.token(rest)?;
            if let Token::Op(op) = token {
                match op {
                    "{" => open.push("}"),
                    "(" => open.push(")"),
                    "[" => open.push("]"),
                    "}" | ")" | "]" => match open.pop() {
                        Some(expected) if expected == op => {}
                        Some(expected) => return self.fail(format!("unexpected '{op}', expected '{expected}'")),
                        None => return self.fail(format!("unexpected '{op}'")),
                    },
                    _ => {}
                }
            }
            self.out.push((token, line));
            self.advance(length);
        }
    }

    fn token(&self, rest: &str) -> Res<(Token, usize)> {
        let first = rest.chars().next().unwrap_or(' ');
        if first.is_ascii_digit() {
            return self.number(rest);
        }
        if first == '\'' || first == '"' {
            let mut escaped = false;
            for (i, c) in rest.char_indices().skip(1) {
                if c == first && !escaped {
                    return match unescape(&rest[1..i]) {
                        Ok(text) => Ok((Token::Str(text.into()), i + 1)),
                        Err(why) => self.fail(why),
                    };
                }
                escaped = c == '\\' && !escaped;
            }
            return self.fail("a string has no end");
        }
        let length = rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
        if length > 0 {
            return Ok((Token::Name(rest[..length].to_string()), length));
        }
        match OPERATORS.iter().find(|op| rest.starts_with(**op)) {
            Some(op) => Ok((Token::Op(op), op.len())),
            None => self.fail(format!("unexpected character {first:?}")),
        }
    }

    fn number(&self, rest: &str) -> Res<(Token, usize)> {
        let bytes = rest.as_bytes();
        let digits = |from: usize, radix: u32| {
            let mut at = from;
            while let Some(b) = bytes.get(at) {
                let after_underscore =
                    *b == b'_' && at > from && bytes.get(at + 1).is_some_and(|n| is_digit(*n, radix));
                if !is_digit(*b, radix) && !after_underscore {
                    break;
                }
                at += 1;
            }
            at
        };
        let whole = digits(0, 10);
        let mut end = whole;
        if !self.text[..self.at].ends_with('.') {
            if bytes.get(end) == Some(&b'.') && digits(end + 1, 10) > end + 1 {
                end = digits(end + 1, 10);
            }
            if matches!(bytes.get(end), Some(b'e' | b'E')) {
                let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
                if digits(end + 1 + sign, 10) > end + 1 + sign {
                    end = digits(end + 1 + sign, 10);
                }
            }
        }
        if end > whole {
            let number = rest[..end].replace('_', "").parse().unwrap_or(f64::NAN);
            return Ok((Token::Float(number), end));
        }
        let radix = match bytes.get(1) {
            Some(b'x' | b'X') => 16,
            Some(b'o' | b'O') => 8,
            Some(b'b' | b'B') => 2,
            _ => 10,
        };
        let (from, end) = match radix {
            10 if bytes[0] == b'0' => (
                0,
                rest[..whole]
                    .trim_start_matches(['0', '_'])
                    .len()
                    .abs_diff(whole)
                    .max(1),
            ),
            10 => (0, whole),
            _ if bytes[0] == b'0' && digits(2, radix) > 2 => (2, digits(2, radix)),
            _ => (0, 1),
        };
        let text = rest[from..end].replace('_', "");
        match i128::from_str_radix(&text, if from == 2 { radix } else { 10 }) {
            Ok(number) => Ok((Token::Int(number), end)),
            Err(_) => self.fail(format!("the integer {text} is beyond 128 bits")),
        }
    }
}

fn is_digit(byte: u8, radix: u32) -> bool {
    (byte as char).is_digit(radix)
}

/// Python's unicode_escape, as Jinja2 applies it: unknown escapes stay as they are spelled.
fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let c = rest.chars().next().ok_or("\\ at end of string")?;
        rest = &rest[c.len_utf8()..];
        let simple = match c {
            '\n' => continue,
            '\\' | '\'' | '"' => c,
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '0'..='7' => {
                let more = rest.bytes().take(2).take_while(|b| is_digit(*b, 8)).count();
                let value = u32::from_str_radix(&format!("{c}{}", &rest[..more]), 8).unwrap_or(0);
                rest = &rest[more..];
                char::from_u32(value).unwrap_or('\0')
            }
            'x' | 'u' | 'U' => {
                let count = match c {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let digits = rest.bytes().take(count).take_while(|b| is_digit(*b, 16)).count();
                if digits < count {
                    return Err(format!("truncated \\{c} escape in a string"));
                }
                let value = u32::from_str_radix(&rest[..count], 16).unwrap_or(u32::MAX);
                rest = &rest[count..];
                char::from_u32(value).ok_or(format!("\\{c}{value:x} in a string is not a character"))?
            }
            'N' => {
                let name = rest.strip_prefix('{').and_then(|r| r.split_once('}'));
                let (name, after) = name.ok_or("malformed \\N character escape in a string")?;
                rest = after;
                unicode_names::find(name).ok_or(format!("unknown Unicode character name {name:?} in a string"))?
            }
            // Jinja2 writes what is not ASCII as an escape first, so that a backslash before it escapes that one.
            c if !c.is_ascii() => {
                let value = c as u32;
                out.push_str(&match value {
                    0..=0xff => format!("\\x{value:02x}"),
                    0x100..=0xffff => format!("\\u{value:04x}"),
                    _ => format!("\\U{value:08x}"),
                });
                continue;
            }
            other => {
                out.push('\\');
                other
            }
        };
        out.push(simple);
    }
    out.push_str(rest);
    Ok(out)
}

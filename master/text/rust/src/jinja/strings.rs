//! The methods of Python's str.
use super::args::{count, Args, Bound};
use super::characters::{case_fold, is_alnum, is_alpha, is_cased, is_decimal, is_digit, is_identifier, is_numeric};
pub use super::characters::{digit_value, is_printable, is_space};
use super::characters::{swap_case, title};
use super::dict::Dict;
use super::format::str_format;
use super::value::Value;
use super::{budget, fault, Res};
use std::rc::Rc;

#[rustfmt::skip]
pub const METHODS: &[&str] = &[
    "capitalize", "casefold", "center", "count", "encode", "endswith", "expandtabs", "find", "format", "format_map",
    "index", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric",
    "isprintable", "isspace", "istitle", "isupper", "join", "ljust", "lower", "lstrip", "maketrans", "partition",
    "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip", "split",
    "splitlines", "startswith", "strip", "swapcase", "title", "translate", "upper", "zfill",
];

/// `text.name(…)`; `name` is one of METHODS.
pub fn call(text: &str, name: &str, args: Args) -> Res<Value> {
    budget::bytes(text.len())?;
    let none: &[&str] = &[];
    if let Some(out) = changed(text, name) {
        args.bind("str method", none)?;
        budget::text(out.len())?;
        return Ok(Value::text(out));
    }
    if let Some(truth) = asked(text, name) {
        args.bind("str method", none)?;
        return Ok(Value::Bool(truth));
    }
    match name {
        "format" => Ok(Value::text(str_format(text, &args)?)),
        "format_map" => format_map(text, args),
        "join" => join(text, args.bind("join", &["iterable"])?.need(0)?),
        "split" | "rsplit" => split(text, name == "rsplit", args.bind("split", &["sep", "maxsplit"])?),
        "splitlines" => {
            let keep = args.bind("splitlines", &["keepends"])?.truth(0, false);
            Value::list(lines(text, keep).into_iter().map(Value::text).collect())
        }
        "strip" | "lstrip" | "rstrip" => strip(text, name, args.bind("strip", &["chars"])?),
        "partition" | "rpartition" => partition(text, name == "rpartition", args.bind("partition", &["sep"])?),
        "removeprefix" | "removesuffix" => {
            let args = args.bind("removeprefix", &["affix"])?;
            let affix = args.text(0)?;
            let rest = match name {
                "removeprefix" => text.strip_prefix(affix),
                _ => text.strip_suffix(affix),
            };
            Ok(Value::text(rest.unwrap_or(text)))
        }
        "replace" => {
            let args = args.bind("replace", &["old", "new", "count"])?;
            let count = args.maybe_int(2)?.unwrap_or(-1);
            Ok(Value::text(replace(text, args.text(0)?, args.text(1)?, count)?))
        }
        "center" | "ljust" | "rjust" => {
            let args = args.bind("center", &["width", "fillchar"])?;
            Ok(Value::text(justify(
                text,
                name,
                args.int(0)?,
                args.maybe_text(1)?.unwrap_or(" "),
            )?))
        }
        "zfill" => zfill(text, args.bind("zfill", &["width"])?.int(0)?),
        "expandtabs" => expand_tabs(text, args.bind("expandtabs", &["tabsize"])?.maybe_int(0)?.unwrap_or(8)),
        "startswith" | "endswith" => affixed(text, name == "startswith", args),
        "count" | "find" | "index" | "rfind" | "rindex" => {
            search(text, name, args.bind("find", &["sub", "start", "end"])?)
        }
        "encode" => encode(text, args.bind("encode", &["encoding", "errors"])?),
        "maketrans" => make_table(args.bind("maketrans", &["x", "y", "z"])?),
        _ => translate(text, args.bind("translate", &["table"])?.need(0)?),
    }
}

fn changed(text: &str, name: &str) -> Option<String> {
    Some(match name {
        "upper" => text.to_uppercase(),
        "lower" => text.to_lowercase(),
        "casefold" => case_fold(text),
        "swapcase" => text.chars().map(swap_case).collect(),
        "capitalize" => capitalize(text),
        "title" => {
            let mut inside = false;
            let mut word = |c: char| {
                let out = if inside { c.to_lowercase().collect() } else { title(c) };
                inside = is_cased(c);
                out
            };
            text.chars().map(&mut word).collect()
        }
        _ => return None,
    })
}

pub fn capitalize(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map(title).unwrap_or_default() + &rest.as_str().to_lowercase()
}

fn asked(text: &str, name: &str) -> Option<bool> {
    let is_title_case = |c: char| is_cased(c) && !c.is_lowercase() && !c.is_uppercase();
    Some(match name {
        "isalnum" => is_alnum(text),
        "isalpha" => is_alpha(text),
        "isascii" => text.is_ascii(),
        "isdecimal" => is_decimal(text),
        "isdigit" => is_digit(text),
        "isidentifier" => is_identifier(text),
        "isnumeric" => is_numeric(text),
        "isprintable" => text.chars().all(is_printable),
        "isspace" => !text.is_empty() && text.chars().all(is_space),
        "islower" => is_lower(text),
        "isupper" => is_upper(text),
        "istitle" => {
            let (mut inside, mut any) = (false, false);
            text.chars().all(|c| {
                let fits = match (c.is_uppercase() || is_title_case(c), is_cased(c)) {
                    (true, _) => !inside,
                    (false, true) => inside,
                    _ => true,
                };
                inside = is_cased(c);
                any |= inside;
                fits
            }) && any
        }
        _ => return None,
    })
}

pub fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && text.chars().all(|c| c.is_lowercase() || !is_cased(c))
}

pub fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && text.chars().all(|c| c.is_uppercase() || !is_cased(c))
}

fn format_map(text: &str, args: Args) -> Res<Value> {
    let args = args.bind("format_map", &["mapping"])?;
    let Value::Dict(dict) = args.need(0)? else {
        return fault("format_map() takes a mapping");
    };
    let named = dict.iter().filter_map(|(k, v)| Some((k.as_str()?.into(), v.clone())));
    let named = named.collect();
    let positional = Vec::new();
    Ok(Value::text(str_format(text, &Args { positional, named })?))
}

fn join(separator: &str, items: &Value) -> Res<Value> {
    let mut out = String::new();
    for (index, item) in items.items()?.iter().enumerate() {
        let Some(text) = item.as_str() else {
            let got = item.type_name();
            return fault(format!("sequence item {index}: expected str instance, {got} found"));
        };
        if index > 0 {
            out.push_str(separator);
        }
        out.push_str(text);
        budget::output(out.len())?;
    }
    budget::text(out.len())?;
    Ok(Value::text(out))
}

fn split(text: &str, from_right: bool, args: Bound) -> Res<Value> {
    let limit = args.maybe_int(1)?.filter(|n| *n >= 0).map_or(usize::MAX, count);
    let separator = args.maybe_text(0)?;
    let mut parts: Vec<&str> = match (separator, from_right) {
        (Some(""), _) => return fault("empty separator"),
        (Some(by), false) => text.splitn(limit.saturating_add(1), by).collect(),
        (Some(by), true) => text.rsplitn(limit.saturating_add(1), by).collect(),
        (None, _) => {
            let mut out = Vec::new();
            let mut rest = text;
            loop {
                rest = match from_right {
                    true => rest.trim_end_matches(is_space),
                    false => rest.trim_start_matches(is_space),
                };
                if rest.is_empty() {
                    break;
                }
                let end = if from_right {
                    rest.rfind(is_space)
                } else {
                    rest.find(is_space)
                };
                match end {
                    Some(at) if out.len() < limit && !from_right => {
                        out.push(&rest[..at]);
                        rest = &rest[at..];
                    }
                    Some(at) if out.len() < limit => {
                        let word = rest[at..].trim_start_matches(is_space);
                        out.push(word);
                        rest = &rest[..rest.len() - word.len()];
                    }
                    _ => {
                        out.push(rest);
                        break;
                    }
                }
            }
            out
        }
    };
    if from_right {
        parts.reverse();
    }
    Value::list(parts.into_iter().map(Value::text).collect())
}

/// str.splitlines.
pub fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let ends = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(ends) {
        let length = if rest[at..].starts_with("\r\n") {
            2
        } else {
            rest[at..].chars().next().map_or(1, char::len_utf8)
        };
        out.push(&rest[..if keep_ends { at + length } else { at }]);
        rest = &rest[at + length..];
    }
    if !rest.is_empty() {
        out.push(rest);
    }
    out
}

fn strip(text: &str, name: &str, args: Bound) -> Res<Value> {
    let given = args.maybe_text(0)?;
    let out = |c: char| given.map_or_else(|| is_space(c), |set| set.contains(c));
    Ok(Value::text(match name {
        "strip" => text.trim_matches(out),
        "lstrip" => text.trim_start_matches(out),
        _ => text.trim_end_matches(out),
    }))
}

fn partition(text: &str, from_right: bool, args: Bound) -> Res<Value> {
    let by = args.text(0)?;
    if by.is_empty() {
        return fault("empty separator");
    }
    let found = if from_right {
        text.rsplit_once(by)
    } else {
        text.split_once(by)
    };
    let parts = match found {
        Some((before, after)) => [before, by, after],
        None if from_right => ["", "", text],
        None => [text, "", ""],
    };
    Value::tuple(parts.map(Value::text).to_vec())
}

pub fn replace(text: &str, old: &str, new: &str, limit: i128) -> Res<String> {
    let limit = if limit < 0 { usize::MAX } else { count(limit) };
    if new.len() > old.len() {
        let found = if old.is_empty() {
            text.len() + 1
        } else {
            text.matches(old).count()
        };
        budget::text(text.len() + found.min(limit).saturating_mul(new.len() - old.len()))?;
    }
    Ok(text.replacen(old, new, limit))
}

pub fn justify(text: &str, name: &str, width: i128, fill: &str) -> Res<String> {
    if fill.chars().count() != 1 {
        return fault("The fill character must be exactly one character long");
    }
    let width = count(width);
    let missing = width.saturating_sub(text.chars().count());
    budget::text(text.len().saturating_add(missing.saturating_mul(fill.len())))?;
    let left = match name {
        "ljust" => 0,
        "rjust" => missing,
        _ => missing / 2 + (missing & width & 1),
    };
    Ok(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)))
}

fn zfill(text: &str, width: i128) -> Res<Value> {
    let sign = usize::from(text.starts_with(['+', '-']));
    let zeros = justify(&text[sign..], "rjust", width.saturating_sub(sign as i128), "0")?;
    Ok(Value::text(format!("{}{zeros}", &text[..sign])))
}

fn expand_tabs(text: &str, size: i128) -> Res<Value> {
    let mut out = String::new();
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' => {
                let size = count(size);
                let missing = if size == 0 { 0 } else { size - column % size };
                budget::text(missing)?;
                out.push_str(&" ".repeat(missing));
                column += missing;
            }
            _ => {
                out.push(c);
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(Value::text(out))
}

/// The part of text between two indices, and how many characters stand before it. Nothing when start is behind the end.
fn window<'a>(text: &'a str, args: &Bound, place: usize) -> Res<Option<(&'a str, usize)>> {
    let (start, end) = (args.maybe_int(place)?, args.maybe_int(place + 1)?);
    if start.is_none() && end.is_none() {
        return Ok(Some((text, 0)));
    }
    let length = text.chars().count() as i128;
    let index = |number: i128| {
        if number < 0 {
            number.saturating_add(length).max(0)
        } else {
            number
        }
    };
    let (start, end) = (index(start.unwrap_or(0)), index(end.unwrap_or(length)).min(length));
    if start > end {
        return Ok(None);
    }
    let at = |index: i128| text.char_indices().nth(index as usize).map_or(text.len(), |(at, _)| at);
    Ok(Some((&text[at(start)..at(end)], start as usize)))
}

fn search(text: &str, name: &str, args: Bound) -> Res<Value> {
    let sub = args.text(0)?;
    let found = match window(text, &args, 1)? {
        Some((part, before)) => {
            if name == "count" {
                return Ok(Value::Int(part.matches(sub).count() as i128));
            }
            let at = if name.starts_with('r') {
                part.rfind(sub)
            } else {
                part.find(sub)
            };
            at.map(|at| before + part[..at].chars().count())
        }
        None => None,
    };
    match (found, name) {
        (Some(index), _) => Ok(Value::Int(index as i128)),
        (None, "count") => Ok(Value::Int(0)),
        (None, "find" | "rfind") => Ok(Value::Int(-1)),
        _ => fault("substring not found"),
    }
}

fn affixed(text: &str, start: bool, args: Args) -> Res<Value> {
    let args = args.bind("startswith", &["affix", "start", "end"])?;
    let Some((part, _)) = window(text, &args, 1)? else {
        return Ok(Value::Bool(false));
    };
    let fits = |affix: &Value| match affix.as_str() {
        Some(affix) => Ok(if start {
            part.starts_with(affix)
        } else {
            part.ends_with(affix)
        }),
        None => {
            let got = affix.type_name();
            fault(format!("startswith first arg must be str or a tuple of str, not {got}"))
        }
    };
    if let Value::Tuple(seq) = args.need(0)? {
        for affix in &seq.items {
            if fits(affix)? {
                return Ok(Value::Bool(true));
            }
        }
        return Ok(Value::Bool(false));
    }
    Ok(Value::Bool(fits(args.need(0)?)?))
}

fn encode(text: &str, args: Bound) -> Res<Value> {
    let encoding = args
        .maybe_text(0)?
        .unwrap_or("utf-8")
        .to_ascii_lowercase()
        .replace('_', "-");
    let errors = args.maybe_text(1)?.unwrap_or("strict");
    let limit = match encoding.as_str() {
        "utf-8" | "utf8" => return Ok(Value::Bytes(text.as_bytes().into())),
        "ascii" | "us-ascii" => 0x80,
        "latin-1" | "latin1" | "iso-8859-1" => 0x100,
        _ => {
            return fault(format!(
                "the encoding '{encoding}' is not served (utf-8, ascii and latin-1 are)"
            ))
        }
    };
    let mut out = Vec::new();
    for c in text.chars() {
        match (c as u32 >= limit, errors) {
            (false, _) => out.push(c as u32 as u8),
            (true, "ignore") => {}
            (true, "replace") => out.push(b'?'),
            (true, _) => {
                return fault(format!(
                    "'{encoding}' codec can't encode character '\\u{:04x}'",
                    c as u32
                ))
            }
        }
    }
    Ok(Value::Bytes(out.into()))
}

fn make_table(args: Bound) -> Res<Value> {
    let mut table = Dict::default();
    let code = |c: char| Value::Int(c as i128);
    if args.get(1).is_none() {
        let Value::Dict(dict) = args.need(0)? else {
            return fault("if you give only one argument to maketrans it must be a dict");
        };
        for (key, value) in dict.iter() {
            let key = match key.as_str().map(|k| (k.chars().next(), k.chars().count())) {
                Some((Some(c), 1)) => code(c),
                Some(_) => return fault("string keys in translate table must be of length 1"),
                None => key.clone(),
            };
            table.insert(key, value.clone())?;
        }
        return Ok(Value::Dict(Rc::new(table)));
    }
    let (from, to) = (args.text(0)?, args.text(1)?);
    if from.chars().count() != to.chars().count() {
        return fault("the first two maketrans arguments must have equal length");
    }
    for (from, to) in from.chars().zip(to.chars()) {
        table.insert(code(from), code(to))?;
    }
    for c in args.maybe_text(2)?.unwrap_or("").chars() {
        table.insert(code(c), Value::None)?;
    }
    Ok(Value::Dict(Rc::new(table)))
}

fn translate(text: &str, table: &Value) -> Res<Value> {
    let mut out = String::new();
    for c in text.chars() {
        let to = match table.defined()? {
            Value::Dict(dict) => dict.get(&Value::Int(c as i128))?.cloned(),
            other => super::ops::item(other, &Value::Int(c as i128))?,
        };
        match &to {
            None => out.push(c),
            Some(Value::None) => {}
            Some(to) => match (to.as_str(), to.as_int()) {
                (Some(text), _) => out.push_str(text),
                (_, Some(code)) => match u32::try_from(code).ok().and_then(char::from_u32) {
                    Some(c) => out.push(c),
                    None => return fault("character mapping must be in range(0x110000)"),
                },
                _ => return fault("character mapping must return integer, None or str"),
            },
        }
        budget::output(out.len())?;
    }
    budget::text(out.len())?;
    Ok(Value::text(out))
}

//! The % operator of strings, and str.format.
use super::args::Args;
use super::repr::{ascii, repr, to_str};
use super::spec::{Spec, MAX_PRECISION};
use super::value::Value;
use super::{budget, fault, methods, ops, Res};

// ---- text % values

/// The arguments of one `text % values`.
struct Values<'a> {
    all: &'a Value,
    rest: std::slice::Iter<'a, Value>,
}

impl Values<'_> {
    fn next(&mut self) -> Res<Value> {
        match self.rest.next() {
            Some(value) => Ok(value.clone()),
            None => fault("not enough arguments for format string"),
        }
    }

    fn named(&self, name: &str) -> Res<Value> {
        match self.all {
            Value::Dict(dict) => match dict.text(name) {
                Some(value) => Ok(value.clone()),
                None => fault(format!("KeyError: '{name}'")),
            },
            _ => fault("format requires a mapping"),
        }
    }
}

/// `template % values`.
pub fn percent(template: &str, values: &Value) -> Res<String> {
    let single = std::slice::from_ref(values);
    let (items, mapping) = match values {
        Value::Tuple(seq) => (&seq.items[..], false),
        Value::Dict(_) | Value::List(_) | Value::Range(_) | Value::Bytes(_) => (single, true),
        _ => (single, false),
    };
    let mut values = Values {
        all: values,
        rest: items.iter(),
    };
    let mut out = String::new();
    let mut text = template;
    while let Some(at) = text.find('%') {
        budget::step()?;
        out.push_str(&text[..at]);
        text = &text[at + 1..];
        let mut named = None;
        if text.starts_with('(') {
            let mut open = 0;
            let end = text.find(|c| {
                open += i32::from(c == '(') - i32::from(c == ')');
                open == 0
            });
            let Some(end) = end else {
                return fault("incomplete format key");
            };
            named = Some(values.named(&text[1..end])?);
            text = &text[end + 1..];
        }
        let spec = percent_spec(&mut text, &mut values)?;
        match spec.kind {
            Some('%') if named.is_none() && spec.is_plain() => out.push('%'),
            _ => {
                let value = match named {
                    Some(value) => value,
                    None => values.next()?,
                };
                out.push_str(&percent_one(spec, &value)?);
            }
        }
        budget::output(out.len())?;
    }
    out.push_str(text);
    if values.rest.next().is_some() && !mapping {
        return fault("not all arguments converted during string formatting");
    }
    budget::text(out.len())?;
    Ok(out)
}

/// Digits, or `*` for the next argument. Leaves what follows in *text.
fn percent_count(text: &mut &str, values: &mut Values) -> Res<Option<i128>> {
    if let Some(after) = text.strip_prefix('*') {
        *text = after;
        return match values.next()?.as_int() {
            Some(number) => Ok(Some(number)),
            None => fault("* wants int"),
        };
    }
    let end = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let digits = &text[..end];
    *text = &text[end..];
    match digits.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) if digits.is_empty() => Ok(None),
        Err(_) => fault("width too big"),
    }
}

fn percent_spec(text: &mut &str, values: &mut Values) -> Res<Spec> {
    let mut spec = Spec::default();
    let flags = text.len() - text.trim_start_matches(['-', '+', ' ', '#', '0']).len();
    for flag in text[..flags].chars() {
        match flag {
            '-' => spec.align = Some('<'),
            '+' => spec.sign = Some('+'),
            ' ' => spec.sign = spec.sign.or(Some(' ')),
            '#' => spec.alternate = true,
            _ => spec.fill = Some('0'),
        }
    }
    *text = &text[flags..];
    let width = percent_count(text, values)?.unwrap_or(0);
    if width < 0 {
        spec.align = Some('<');
    }
    spec.width = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
    if let Some(after) = text.strip_prefix('.') {
        *text = after;
        let precision = percent_count(text, values)?.unwrap_or(0).max(0);
        spec.precision = Some(usize::try_from(precision).unwrap_or(usize::MAX));
    }
    *text = text.strip_prefix(['h', 'l', 'L']).unwrap_or(text);
    let Some(kind) = text.chars().next() else {
        return fault("incomplete format");
    };
    *text = &text[kind.len_utf8()..];
    spec.kind = Some(kind);
    Ok(spec)
}

fn percent_one(mut spec: Spec, value: &Value) -> Res<String> {
    let kind = spec.kind.unwrap_or('s');
    let zero = spec.fill.take().is_some() && spec.align.is_none();
    let right = |mut spec: Spec| {
        spec.align = spec.align.or(Some('>'));
        spec
    };
    match kind {
        's' => return right(spec).text(&to_str(value)?),
        'r' => return right(spec).text(&repr(value)?),
        'a' => return right(spec).text(&ascii(value)?),
        'c' => {
            let text = match (value.as_str(), value.as_int()) {
                (Some(text), _) if text.chars().count() == 1 => text.to_string(),
                (_, Some(code)) => match u32::try_from(code).ok().and_then(char::from_u32) {
                    Some(c) => c.to_string(),
                    None => return fault("%c arg not in range(0x110000)"),
                },
                _ => return fault("%c requires int or char"),
            };
            return right(spec).text(&text);
        }
        _ => {}
    }
    if zero {
        spec.fill = Some('0');
        spec.align = Some('=');
    }
    if spec.precision.is_some_and(|p| p > MAX_PRECISION) {
        return fault("precision too big");
    }
    match kind {
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let number = match (kind, value.as_int()) {
                (_, Some(number)) => Some(number),
                ('d' | 'i' | 'u', None) => ops::truncate(value),
                _ => None,
            };
            spec.kind = Some(if matches!(kind, 'i' | 'u') { 'd' } else { kind });
            match number {
                Some(number) => spec.integer(number),
                None => fault(format!(
                    "%{kind} format: a real number is required, not {}",
                    value.type_name()
                )),
            }
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => match (value.as_str(), ops::to_float(value)) {
            (None, Some(number)) => spec.float(number),
            _ => fault(format!("must be real number, not {}", value.type_name())),
        },
        _ => fault(format!("unsupported format character '{kind}' (0x{:x})", kind as u32)),
    }
}

// ---- str.format

/// `template.format(*args, **kwargs)`.
pub fn str_format(template: &str, args: &Args) -> Res<String> {
    let mut next = Some(0);
    braces(template, args, &mut next, 3)
}

fn braces(template: &str, args: &Args, next: &mut Option<usize>, depth: u32) -> Res<String> {
    if depth == 0 {
        return fault("Max string recursion exceeded");
    }
    let mut out = String::new();
    let mut text = template;
    while let Some(at) = text.find(['{', '}']) {
        budget::step()?;
        out.push_str(&text[..at]);
        let brace = &text[at..=at];
        text = &text[at + 1..];
        if text.starts_with(brace) {
            out.push_str(brace);
            text = &text[1..];
            continue;
        }
        if brace == "}" {
            return fault("Single '}' encountered in format string");
        }
        let mut open = 1;
        let end = text.find(|c| {
            open += i32::from(c == '{') - i32::from(c == '}');
            open == 0
        });
        let Some(end) = end else {
            return fault("expected '}' before end of string");
        };
        out.push_str(&replacement(&text[..end], args, next, depth)?);
        text = &text[end + 1..];
        budget::output(out.len())?;
    }
    out.push_str(text);
    budget::text(out.len())?;
    Ok(out)
}

fn replacement(field: &str, args: &Args, next: &mut Option<usize>, depth: u32) -> Res<String> {
    // A ':' or '!' inside [] belongs to the field's name.
    let mut inside = false;
    let end = field.find(|c| {
        inside = (inside || c == '[') && c != ']';
        !inside && matches!(c, ':' | '!')
    });
    let (name, mut rest) = field.split_at(end.unwrap_or(field.len()));
    let mut value = lookup(name, args, next)?;
    if let Some(after) = rest.strip_prefix('!') {
        value = match after.chars().next() {
            Some('r') => Value::text(repr(&value)?),
            Some('s') => Value::text(to_str(&value)?),
            Some('a') => Value::text(ascii(&value)?),
            _ => return fault("Unknown conversion specifier in a format string"),
        };
        rest = &after[1..];
        if !rest.is_empty() && !rest.starts_with(':') {
            return fault("expected ':' after conversion specifier");
        }
    }
    let spec = braces(rest.strip_prefix(':').unwrap_or(""), args, next, depth - 1)?;
    with_spec(&value, &spec)
}

fn lookup(name: &str, args: &Args, next: &mut Option<usize>) -> Res<Value> {
    let end = name.find(['.', '[']).unwrap_or(name.len());
    let (first, mut rest) = name.split_at(end);
    let position = match first.parse::<usize>() {
        Ok(position) => {
            if next.is_some_and(|n| n > 0) {
                return fault("cannot switch from automatic field numbering to manual field specification");
            }
            *next = None;
            Some(position)
        }
        Err(_) if first.is_empty() => match next {
            Some(n) => {
                *n += 1;
                Some(*n - 1)
            }
            None => return fault("cannot switch from manual field specification to automatic field numbering"),
        },
        Err(_) => None,
    };
    let found = match position {
        Some(position) => args.positional.get(position),
        None => args.named.iter().find(|(n, _)| **n == *first).map(|(_, v)| v),
    };
    let mut value = match (found, position) {
        (Some(value), _) => value.clone(),
        (None, Some(_)) => return fault("Replacement index out of range for positional args tuple"),
        (None, None) => return fault(format!("KeyError: '{first}'")),
    };
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            value = methods::attribute(&value, &after[..end])?;
            rest = &after[end..];
        } else {
            let Some(inside) = rest.strip_prefix('[') else {
                return fault("Only '.' or '[' may follow ']' in format field specifier");
            };
            let Some((key, after)) = inside.split_once(']') else {
                return fault("Missing ']' in format string");
            };
            let key = key.parse().map_or_else(|_| Value::text(key), Value::Int);
            value = methods::subscript(&value, &key)?;
            rest = after;
        }
    }
    Ok(value)
}

/// format(value, spec).
fn with_spec(value: &Value, text: &str) -> Res<String> {
    if text.is_empty() {
        return Ok(to_str(value)?.into_owned());
    }
    let spec = Spec::read(text, value)?;
    match value {
        Value::Str(text) | Value::Markup(text) => match spec.kind {
            None | Some('s') if spec.align != Some('=') && spec.sign.is_none() => spec.text(text),
            _ => fault(format!(
                "Unknown format code or flag for object of type '{}'",
                value.type_name()
            )),
        },
        Value::Float(number) if spec.kind_is_float() => spec.float(*number),
        Value::Int(_) | Value::Bool(_) => {
            let number = value.as_int().unwrap_or(0);
            match spec.kind {
                None if matches!(value, Value::Bool(_)) && spec.width > 0 && spec.align.is_none() => {
                    spec.integer(number)
                }
                None | Some('d' | 'x' | 'X' | 'o' | 'b' | 'n') if spec.precision.is_none() => spec.integer(number),
                Some('c') => match u32::try_from(number).ok().and_then(char::from_u32) {
                    Some(c) => spec.text(&c.to_string()),
                    None => fault("%c arg not in range(0x110000)"),
                },
                Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') => spec.float(number as f64),
                _ => fault("Unknown format code for object of type 'int'"),
            }
        }
        _ => fault(format!(
            "unsupported format string passed to {}.__format__",
            value.type_name()
        )),
    }
}

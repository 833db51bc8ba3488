//! Jinja2's filters: their names, and those of numbers and single values.
use super::args::{count, Args, Bound};
use super::repr::to_str;
use super::value::{Object, Value};
use super::{budget, fault, filters_sequence, filters_text, json, methods, number, ops, pprint, Res};

#[rustfmt::skip]
const NAMES: &[&str] = &[
    "abs", "attr", "batch", "capitalize", "center", "count", "d", "default", "dictsort", "e", "escape",
    "filesizeformat", "first", "float", "forceescape", "format", "groupby", "indent", "int", "items", "join", "last",
    "length", "list", "lower", "map", "max", "min", "pprint", "random", "reject", "rejectattr", "replace", "reverse",
    "round", "safe", "select", "selectattr", "slice", "sort", "string", "striptags", "sum", "title", "tojson", "trim",
    "truncate", "unique", "upper", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr",
];

pub fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

pub fn apply(name: &str, value: &Value, args: Args) -> Res<Value> {
    if !exists(name) {
        return fault(format!("no filter named '{name}'"));
    }
    match name {
        "abs" => abs(value, args),
        "attr" => {
            let args = args.bind("attr", &["name"])?;
            let name = args.text(0)?;
            let missing = || Value::undefined(format!("'{} object' has no attribute '{name}'", value.type_name()));
            Ok(methods::attribute_only(value, name)?.unwrap_or_else(missing))
        }
        "default" | "d" => {
            let args = args.bind("default", &["default_value", "boolean"])?;
            let replace = value.is_undefined() || (args.truth(1, false) && !value.is_true());
            match (replace, args.get(0)) {
                (false, _) => Ok(value.clone()),
                (true, Some(default)) => Ok(default.clone()),
                (true, None) => Ok(Value::text("")),
            }
        }
        "int" => to_int(value, args.bind("int", &["default", "base"])?),
        "float" => {
            let args = args.bind("float", &["default"])?;
            match ops::to_float(value.defined()?) {
                Some(number) => Ok(Value::Float(number)),
                None => Ok(args.get(0).cloned().unwrap_or(Value::Float(0.0))),
            }
        }
        "round" => round(value, args.bind("round", &["precision", "method"])?),
        "length" | "count" => {
            args.bind("length", &[])?;
            match value.length()? {
                Some(length) => Ok(Value::Int(length as i128)),
                None => fault(format!("object of type '{}' has no len()", value.type_name())),
            }
        }
        "string" => {
            args.bind("string", &[])?;
            match value {
                Value::Markup(_) => Ok(value.clone()),
                _ => Ok(Value::text(to_str(value)?)),
            }
        }
        "tojson" => json::filter(value, args),
        "pprint" => {
            args.bind("pprint", &[])?;
            Ok(Value::text(pprint::format(value)?))
        }
        "filesizeformat" => file_size(value, args.bind("filesizeformat", &["binary"])?),
        _ => match filters_sequence::apply(name, value, args) {
            Ok(out) => out,
            Err(args) => filters_text::apply(name, value, args),
        },
    }
}

fn abs(value: &Value, args: Args) -> Res<Value> {
    args.bind("abs", &[])?;
    match value.defined()? {
        Value::Float(number) => Ok(Value::Float(number.abs())),
        other => match other.as_int().map(i128::checked_abs) {
            Some(Some(number)) => Ok(Value::Int(number)),
            _ => fault(format!("bad operand type for abs(): '{}'", other.type_name())),
        },
    }
}

fn to_int(value: &Value, args: Bound) -> Res<Value> {
    // With a base that there is none of, int() fails and float() is tried.
    let base = u32::try_from(args.maybe_int(1)?.unwrap_or(10))
        .ok()
        .filter(|b| matches!(b, 0 | 2..=36));
    let number = match value.defined()?.as_str() {
        Some(text) => {
            budget::bytes(text.len())?;
            let float = || number::parse_float(text).and_then(|f| ops::truncate(&Value::Float(f)));
            base.and_then(|base| number::parse_int(text, base)).or_else(float)
        }
        None => ops::truncate(value),
    };
    match (number, args.get(0)) {
        (Some(number), _) => Ok(Value::Int(number)),
        (None, Some(default)) => Ok(default.clone()),
        (None, None) => Ok(Value::Int(0)),
    }
}

fn round(value: &Value, args: Bound) -> Res<Value> {
    let digits = args.maybe_int(0)?.unwrap_or(0);
    let method = args.maybe_text(1)?.unwrap_or("common");
    let float = match (value.defined()?, value.as_int()) {
        (Value::Float(number), _) => *number,
        (_, Some(number)) if method == "common" && digits >= 0 => return Ok(Value::Int(number)),
        (_, Some(number)) if method == "common" => return Ok(Value::Int(number::round_int(number, digits))),
        (_, Some(number)) => number as f64,
        _ => return fault(format!("type {} doesn't define __round__ method", value.type_name())),
    };
    let power = 10f64.powi(digits.clamp(-400, 400) as i32);
    let rounded = match method {
        "common" => return Ok(Value::Float(number::round(float, digits))),
        "ceil" => (float * power).ceil(),
        "floor" => (float * power).floor(),
        _ => return fault("method must be common, ceil or floor"),
    };
    if !rounded.is_finite() {
        return fault("cannot convert float to integer");
    }
    Ok(Value::Float(rounded / power))
}

fn file_size(value: &Value, args: Bound) -> Res<Value> {
    let binary = args.truth(0, false);
    let Some(size) = ops::to_float(value.defined()?) else {
        return fault("could not convert to float");
    };
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if size == 1.0 {
        return Ok(Value::text("1 Byte"));
    }
    if size < base {
        return Ok(Value::text(format!("{} Bytes", size.trunc() as i128)));
    }
    let prefixes = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
    let at = (0..7).find(|i| size < base.powi(*i + 2)).unwrap_or(7);
    let number = base * size / base.powi(at + 2);
    let prefix = prefixes[at as usize];
    Ok(Value::text(match binary {
        true => format!("{number:.1} {}iB", prefix.to_uppercase()),
        false => format!("{number:.1} {prefix}B"),
    }))
}

/// What `attribute="a.b.0"` names of an item.
pub fn follow(item: &Value, path: &Value) -> Res<Value> {
    let Some(text) = path.as_str() else {
        return methods::subscript(item, path);
    };
    let mut at = item.clone();
    for part in text.split('.') {
        let key = match part.parse::<u32>() {
            Ok(index) if part.bytes().all(|b| b.is_ascii_digit()) => Value::Int(index.into()),
            _ => Value::text(part),
        };
        at = methods::subscript(&at, &key)?;
    }
    Ok(at)
}

/// One of a list, by chance.
pub fn random(value: &Value) -> Res<Value> {
    use std::hash::{BuildHasher, Hasher};
    let Some(length) = value.length()? else {
        return fault(format!("object of type '{}' has no len()", value.type_name()));
    };
    if length == 0 {
        return Ok(Value::undefined("No random item, sequence was empty."));
    }
    let chance = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let index = Value::Int((chance % length as u64).into());
    match ops::item(value, &index)? {
        Some(item) => Ok(item),
        None => fault(format!("'{}' object is not subscriptable", value.type_name())),
    }
}

/// A list is cut into lists of so many.
pub fn batch(value: &Value, args: Bound) -> Res<Value> {
    let size = count(args.int(0)?);
    let mut out: Vec<Vec<Value>> = Vec::new();
    for item in value.items()? {
        match out.last_mut() {
            Some(last) if last.len() != size => last.push(item),
            _ => out.push(vec![item]),
        }
    }
    if let (Some(last), Some(fill)) = (out.last_mut(), args.get(1)) {
        if !matches!(fill, Value::None) && last.len() < size {
            budget::items(size)?;
            last.resize(size, fill.clone());
        }
    }
    Value::iterator("do_batch", out.into_iter().map(Value::list).collect::<Res<_>>()?)
}

/// A list is cut into so many lists.
pub fn slice(value: &Value, args: Bound) -> Res<Value> {
    let items = value.items()?;
    let slices = count(args.int(0)?);
    if slices == 0 {
        return fault("integer division or modulo by zero");
    }
    budget::items(slices)?;
    let (each, extra) = (items.len() / slices, items.len() % slices);
    let mut rest = items.into_iter();
    let mut out = Vec::new();
    for index in 0..slices {
        let mut part: Vec<Value> = rest.by_ref().take(each + usize::from(index < extra)).collect();
        match args.get(1) {
            Some(fill) if !matches!(fill, Value::None) && index >= extra => part.push(fill.clone()),
            _ => {}
        }
        out.push(Value::list(part)?);
    }
    Value::iterator("do_slice", out)
}

/// Whether a template may call it.
pub fn is_callable(value: &Value) -> bool {
    match value {
        Value::Object(object) => matches!(
            &**object,
            Object::Macro(_) | Object::Function(_) | Object::Method(..) | Object::Joiner(..) | Object::Loop(_)
        ),
        // An undefined value has a __call__, which fails.
        other => other.is_undefined(),
    }
}

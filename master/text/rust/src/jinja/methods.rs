//! Attributes, subscripts and methods, as Transformers' sandbox lets a template reach them.
use super::args::{Args, Bound};
use super::repr::repr;
use super::value::{LoopState, Object, Value, View};
use super::{budget, fault, ops, scope, strings, Dict, Res};
use std::rc::Rc;

/// Methods of Python's types that there is no use for here: refused when a template is loaded.
pub const NOT_SERVED: &[&str] = &["as_integer_ratio", "from_bytes", "fromhex", "hex", "to_bytes"];

const LIST: &[&str] = &["copy", "count", "index"];
const DICT: &[&str] = &["copy", "fromkeys", "get", "items", "keys", "values"];
const CHANGES_LIST: &[&str] = &[
    "append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort",
];
const CHANGES_DICT: &[&str] = &["clear", "pop", "popitem", "setdefault", "update"];

fn methods(value: &Value) -> &'static [&'static str] {
    match value {
        Value::Str(_) | Value::Markup(_) => strings::METHODS,
        Value::List(_) => LIST,
        Value::Tuple(_) | Value::Range(_) => &["count", "index"],
        Value::Dict(_) => DICT,
        Value::Bytes(_) => &["decode"],
        Value::Int(_) | Value::Bool(_) => &["bit_count", "bit_length", "conjugate", "is_integer"],
        Value::Float(_) => &["conjugate", "is_integer"],
        Value::Object(object) => match &**object {
            Object::Loop(_) => &["changed", "cycle"],
            Object::Cycler(..) => &["next", "reset"],
            Object::Group(..) => &["count", "index"],
            Object::Function("dict") => &["fromkeys"],
            _ => &[],
        },
        _ => &[],
    }
}

fn undefined_of(value: &Value, what: &str) -> Value {
    let of = match value {
        Value::None => "None".to_string(),
        Value::Undefined(_) => "jinja2.runtime.Undefined object".to_string(),
        other => format!("{} object", other.type_name()),
    };
    Value::undefined(match what.strip_prefix('\0') {
        Some(element) => format!("{of} has no element {element}"),
        None => format!("'{of}' has no attribute '{what}'"),
    })
}

fn own_attribute(value: &Value, name: &str) -> Option<Value> {
    let number = |n: usize| Some(Value::Int(n as i128));
    match value {
        Value::Range(range) => match name {
            "start" => Some(Value::Int(range.start.into())),
            "step" => Some(Value::Int(range.step.into())),
            "stop" => Some(Value::Int(range.stop.into())),
            _ => None,
        },
        Value::Int(_) | Value::Float(_) => match name {
            "real" | "numerator" => Some(value.clone()),
            "imag" => Some(Value::Int(0)),
            "denominator" => Some(Value::Int(1)),
            _ => None,
        },
        Value::Object(object) => match &**object {
            Object::Namespace(members, _) => members.borrow().text(name).cloned(),
            Object::Loop(state) => of_loop(state, name),
            Object::Cycler(items, at, _) if name == "current" => Some(items[at.get()].clone()),
            Object::Group(key, _) if name == "grouper" => Some(key.clone()),
            Object::Group(_, list) if name == "list" => Some(list.clone()),
            Object::Macro(of) => match name {
                "name" => Some(Value::Str(of.code.name.clone())),
                "arguments" => {
                    let names = of.code.parameters.iter().map(|(_, n, _)| Value::Str(n.clone()));
                    Value::tuple(names.collect()).ok()
                }
                "catch_kwargs" => Some(Value::Bool(of.code.kwargs.is_some())),
                "catch_varargs" => Some(Value::Bool(of.code.varargs.is_some())),
                "caller" => Some(Value::Bool(of.code.caller.is_some())),
                _ => None,
            },
            Object::Joiner(separator, _) if name == "sep" => Some(Value::Str(separator.clone())),
            Object::Joiner(_, used) if name == "used" => Some(Value::Bool(used.get())),
            Object::Cycler(_, at, _) if name == "pos" => number(at.get()),
            _ => None,
        },
        _ => None,
    }
}

fn of_loop(state: &LoopState, name: &str) -> Option<Value> {
    let (at, length) = (state.index.get(), state.items.len());
    let number = |n: usize| Some(Value::Int(n as i128));
    match name {
        "index" => number(at + 1),
        "index0" => number(at),
        "revindex" => number(length - at),
        "revindex0" => number(length - at - 1),
        "first" => Some(Value::Bool(at == 0)),
        "last" => Some(Value::Bool(at + 1 == length)),
        "length" => number(length),
        "depth" => number(state.depth + 1),
        "depth0" => number(state.depth),
        "previtem" => Some(match at.checked_sub(1) {
            Some(before) => state.items[before].clone(),
            None => Value::undefined("there is no previous item"),
        }),
        "nextitem" => Some(match state.items.get(at + 1) {
            Some(next) => next.clone(),
            None => Value::undefined("there is no next item"),
        }),
        _ => None,
    }
}

/// The attribute alone, without a look at the members of a dict.
pub fn attribute_only(value: &Value, name: &str) -> Res<Option<Value>> {
    if let Some(own) = own_attribute(value.defined()?, name) {
        return Ok(Some(own));
    }
    if methods(value).contains(&name) {
        return Ok(Some(Value::object(Object::Method(value.clone(), name.into()))));
    }
    let changes = match value {
        Value::List(_) => CHANGES_LIST.contains(&name),
        Value::Dict(_) => CHANGES_DICT.contains(&name),
        _ => false,
    };
    if changes || name.starts_with("__") {
        let of = value.type_name();
        return Ok(Some(Value::undefined(format!(
            "access to attribute '{name}' of '{of}' object is unsafe."
        ))));
    }
    Ok(None)
}

/// `value.name`: an attribute, else a member.
pub fn attribute(value: &Value, name: &str) -> Res<Value> {
    budget::bytes(name.len())?;
    if let Some(found) = attribute_only(value, name)? {
        return Ok(found);
    }
    let member = match value {
        Value::Dict(dict) => dict.text(name).cloned(),
        _ => None,
    };
    Ok(member.unwrap_or_else(|| undefined_of(value, name)))
}

/// `value[key]`: a member, else an attribute.
pub fn subscript(value: &Value, key: &Value) -> Res<Value> {
    if let Some(found) = ops::item(value, key)? {
        return Ok(found);
    }
    match key.as_str() {
        Some(name) => Ok(attribute_only(value, name)?.unwrap_or_else(|| undefined_of(value, name))),
        None => Ok(undefined_of(value, &format!("\0{}", repr(key)?))),
    }
}

/// `of.name(…)`; `name` is one of its methods.
pub fn call(of: &Value, name: &str, args: Args) -> Res<Value> {
    if let Some(text) = of.as_str() {
        return strings::call(text, name, args);
    }
    match of {
        Value::Dict(dict) => of_dict(dict, name, args),
        Value::Object(object) => match &**object {
            Object::Loop(state) => loop_method(state, name, args),
            Object::Cycler(items, at, _) => {
                args.bind("cycler method", &[])?;
                if name == "reset" {
                    at.set(0);
                    return Ok(Value::None);
                }
                let now = items[at.get()].clone();
                at.set((at.get() + 1) % items.len());
                Ok(now)
            }
            Object::Function(_) => from_keys(args),
            _ => of_sequence(of, name, args),
        },
        Value::Bytes(bytes) => {
            args.bind("decode", &["encoding", "errors"])?;
            match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Value::text(text)),
                Err(_) => fault("'utf-8' codec can't decode the bytes"),
            }
        }
        Value::Int(_) | Value::Bool(_) | Value::Float(_) => {
            args.bind("number method", &[])?;
            let number = of.as_int().unwrap_or(0).unsigned_abs();
            Ok(match name {
                "bit_length" => Value::Int((128 - number.leading_zeros()).into()),
                "bit_count" => Value::Int(number.count_ones().into()),
                "is_integer" => Value::Bool(!matches!(of, Value::Float(f) if ops::whole(*f).is_none())),
                _ => of.clone(),
            })
        }
        _ => of_sequence(of, name, args),
    }
}

fn of_dict(dict: &Rc<Dict>, name: &str, args: Args) -> Res<Value> {
    let view = match name {
        "keys" => View::Keys,
        "values" => View::Values,
        "items" => View::Items,
        "get" => {
            let args = args.bind("get", &["key", "default"])?;
            let found = dict.get(args.need(0)?)?.or(args.get(1)).cloned();
            return Ok(found.unwrap_or(Value::None));
        }
        "copy" => {
            args.bind("copy", &[])?;
            return Ok(Value::Dict(Rc::new(dict.copy()?)));
        }
        _ => return from_keys(args),
    };
    args.bind("dict view", &[])?;
    Ok(Value::object(Object::View(dict.clone(), view)))
}

fn from_keys(args: Args) -> Res<Value> {
    let args = args.bind("fromkeys", &["iterable", "value"])?;
    let mut dict = Dict::default();
    for key in args.need(0)?.items()? {
        dict.insert(key, args.get(1).cloned().unwrap_or(Value::None))?;
    }
    Ok(Value::Dict(Rc::new(dict)))
}

fn of_sequence(of: &Value, name: &str, args: Args) -> Res<Value> {
    let items = of.items()?;
    match name {
        "copy" => {
            args.bind("copy", &[])?;
            Value::list(items)
        }
        "count" => {
            let args = args.bind("count", &["value"])?;
            let wanted = args.need(0)?;
            let mut count = 0;
            for item in &items {
                count += i128::from(ops::equal(item, wanted)?);
            }
            Ok(Value::Int(count))
        }
        _ => index(&items, args.bind("index", &["value", "start", "stop"])?),
    }
}

fn index(items: &[Value], args: Bound) -> Res<Value> {
    let wanted = args.need(0)?;
    let place = |number: i128| {
        let number = if number < 0 {
            number + items.len() as i128
        } else {
            number
        };
        number.clamp(0, items.len() as i128) as usize
    };
    let start = place(args.maybe_int(1)?.unwrap_or(0));
    let stop = place(args.maybe_int(2)?.unwrap_or(i64::MAX.into()));
    match ops::position(items.get(start..stop).unwrap_or_default(), wanted)? {
        Some(found) => Ok(Value::Int((start + found) as i128)),
        None => fault(format!("{} is not in list", repr(wanted)?)),
    }
}

fn loop_method(state: &Rc<LoopState>, name: &str, args: Args) -> Res<Value> {
    if name == "cycle" {
        if args.positional.is_empty() {
            return fault("no items for cycling given");
        }
        let at = state.index.get() % args.positional.len();
        return Ok(args.positional[at].clone());
    }
    let mut last = state.last_changed.borrow_mut();
    let now = args.positional;
    match &*last {
        Some(last) if ops::all_equal(last, &now)? => return Ok(Value::Bool(false)),
        Some(_) => {}
        None => scope::hold_loop(state),
    }
    *last = Some(now);
    Ok(Value::Bool(true))
}

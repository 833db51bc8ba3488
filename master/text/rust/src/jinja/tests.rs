//! Jinja2's tests.
use super::args::Args;
use super::ast::{Binary, Compare};
use super::repr::to_str;
use super::value::{Object, Value};
use super::{fault, filters, ops, strings, Res};
use std::rc::Rc;

#[rustfmt::skip]
const NAMES: &[&str] = &[
    "boolean", "callable", "defined", "divisibleby", "eq", "equalto", "escaped", "even", "false", "filter", "float",
    "ge", "greaterthan", "gt", "in", "integer", "iterable", "le", "lessthan", "lower", "lt", "mapping", "ne", "none",
    "number", "odd", "sameas", "sequence", "string", "test", "true", "undefined", "upper", "!=", "<", "<=", "==", ">",
    ">=",
];

pub fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

pub fn apply(name: &str, value: &Value, args: Args) -> Res<bool> {
    let comparison = match name {
        "==" | "eq" | "equalto" => Some(Compare::Eq),
        "!=" | "ne" => Some(Compare::Ne),
        "<" | "lt" | "lessthan" => Some(Compare::Lt),
        "<=" | "le" => Some(Compare::Le),
        ">" | "gt" | "greaterthan" => Some(Compare::Gt),
        ">=" | "ge" => Some(Compare::Ge),
        "in" => Some(Compare::In),
        _ => None,
    };
    if let Some(op) = comparison {
        return ops::compare(op, value, args.bind("test", &["other"])?.need(0)?);
    }
    match name {
        "divisibleby" => {
            let args = args.bind("divisibleby", &["num"])?;
            return remainder(value, args.need(0)?, 0);
        }
        "sameas" => return same(value, args.bind("sameas", &["other"])?.need(0)?),
        _ => args.bind("test", &[])?,
    };
    Ok(match name {
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
        "string" => value.as_str().is_some(),
        "mapping" => matches!(value, Value::Dict(_)),
        "escaped" => matches!(value, Value::Markup(_)),
        "iterable" => value.is_iterable(),
        "sequence" => match value {
            Value::Object(object) => matches!(&**object, Object::Group(..)),
            other => other.length()?.is_some(),
        },
        "callable" => filters::is_callable(value),
        "odd" => return remainder(value, &Value::Int(2), 1),
        "even" => return remainder(value, &Value::Int(2), 0),
        "lower" => strings::is_lower(&to_str(value)?),
        "upper" => strings::is_upper(&to_str(value)?),
        "filter" => value.as_str().is_some_and(filters::exists),
        "test" => value.as_str().is_some_and(exists),
        _ => return fault(format!("no test named '{name}'")),
    })
}

fn remainder(value: &Value, by: &Value, wanted: i128) -> Res<bool> {
    ops::equal(&ops::binary(Binary::Mod, value, by)?, &Value::Int(wanted))
}

/// Whether both are one object, as far as that is the language's and not the interpreter's business.
fn same(a: &Value, b: &Value) -> Res<bool> {
    Ok(match (a, b) {
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => Rc::ptr_eq(a, b),
        (Value::Dict(a), Value::Dict(b)) => Rc::ptr_eq(a, b),
        _ => a.type_name() == b.type_name() && ops::equal(a, b)?,
    })
}

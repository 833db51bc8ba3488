//! Python's operators.
use super::ast::{Binary, Compare};
use super::value::{Object, Range, Seq, Value, View};
use super::{budget, fault, format, number, Res};
use std::cmp::Ordering;
use std::rc::Rc;

enum Pair {
    Int(i128, i128),
    Float(f64, f64),
}

fn numbers(a: &Value, b: &Value) -> Option<Pair> {
    match (a.as_int(), b.as_int(), a, b) {
        (Some(a), Some(b), _, _) => Some(Pair::Int(a, b)),
        (Some(a), None, _, Value::Float(b)) => Some(Pair::Float(a as f64, *b)),
        (None, Some(b), Value::Float(a), _) => Some(Pair::Float(*a, b as f64)),
        (None, None, Value::Float(a), Value::Float(b)) => Some(Pair::Float(*a, *b)),
        _ => None,
    }
}

/// The integer that a float is, if it is one.
pub fn whole(number: f64) -> Option<i128> {
    (number.fract() == 0.0 && number.abs() < 1.7e38).then_some(number as i128)
}

pub fn symbol(op: Binary) -> &'static str {
    match op {
        Binary::Add => "+",
        Binary::Sub => "-",
        Binary::Mul => "*",
        Binary::Div => "/",
        Binary::FloorDiv => "//",
        Binary::Mod => "%",
        Binary::Pow => "** or pow()",
    }
}

pub fn binary(op: Binary, a: &Value, b: &Value) -> Res<Value> {
    a.defined()?;
    if let (Binary::Mod, Some(text)) = (op, a.as_str()) {
        return Ok(Value::text(format::percent(text, b)?));
    }
    b.defined()?;
    match (op, numbers(a, b)) {
        (_, Some(Pair::Int(a, b))) => integers(op, a, b),
        (_, Some(Pair::Float(a, b))) => floats(op, a, b),
        (Binary::Add, None) => join(a, b),
        (Binary::Mul, None) => repeat(a, b),
        _ => unsupported(op, a, b),
    }
}

fn unsupported(op: Binary, a: &Value, b: &Value) -> Res<Value> {
    let (op, a, b) = (symbol(op), a.type_name(), b.type_name());
    fault(format!("unsupported operand type(s) for {op}: '{a}' and '{b}'"))
}

fn integers(op: Binary, a: i128, b: i128) -> Res<Value> {
    let zero = matches!(op, Binary::Div | Binary::FloorDiv | Binary::Mod) && b == 0;
    if zero || (op == Binary::Pow && a == 0 && b < 0) {
        return fault("division by zero");
    }
    let result = match op {
        Binary::Add => a.checked_add(b),
        Binary::Sub => a.checked_sub(b),
        Binary::Mul => a.checked_mul(b),
        Binary::Div => return Ok(Value::Float(a as f64 / b as f64)),
        Binary::FloorDiv => a
            .checked_div(b)
            .map(|q| q - i128::from(a % b != 0 && (a < 0) != (b < 0))),
        Binary::Mod => a
            .checked_rem(b)
            .map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
        Binary::Pow if b < 0 => return floats(op, a as f64, b as f64),
        Binary::Pow => match a {
            0 | 1 => Some(if b == 0 { 1 } else { a }),
            -1 => Some(if b % 2 == 0 { 1 } else { -1 }),
            _ => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
        },
    };
    match result {
        Some(number) => Ok(Value::Int(number)),
        None => fault("an integer is beyond 128 bits"),
    }
}

fn floats(op: Binary, a: f64, b: f64) -> Res<Value> {
    if b == 0.0 && matches!(op, Binary::Div | Binary::FloorDiv | Binary::Mod) {
        return fault("float division by zero");
    }
    let modulo = || {
        let rest = a % b;
        match rest != 0.0 && (rest < 0.0) != (b < 0.0) {
            true => rest + b,
            false => rest.abs().copysign(if rest == 0.0 { b } else { rest }),
        }
    };
    let result = match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Mod => modulo(),
        Binary::FloorDiv => {
            let quotient = (a - modulo()) / b;
            let floor = quotient.floor();
            if quotient - floor > 0.5 {
                floor + 1.0
            } else {
                floor
            }
        }
        Binary::Pow => {
            if a == 0.0 && b < 0.0 {
                return fault("0.0 cannot be raised to a negative power");
            }
            if a < 0.0 && a.is_finite() && b.is_finite() && b.fract() != 0.0 {
                return fault("complex numbers are not served");
            }
            let power = a.powf(b);
            if power.is_infinite() && a.is_finite() && b.is_finite() {
                return fault("(34, 'Numerical result out of range')");
            }
            power
        }
    };
    Ok(Value::Float(result))
}

fn join(a: &Value, b: &Value) -> Res<Value> {
    match (a, b) {
        (Value::Markup(_), other) | (other, Value::Markup(_)) if other.as_str().is_some() => {
            let html = |v: &Value| super::filters_text::escape_html(v);
            let (a, b) = (html(a)?, html(b)?);
            budget::text(a.len() + b.len())?;
            Ok(Value::Markup((a + &b).into()))
        }
        (Value::Str(a), Value::Str(b)) => {
            budget::text(a.len() + b.len())?;
            Ok(Value::text([&**a, &**b].concat()))
        }
        (Value::List(a), Value::List(b)) => Ok(Value::List(chain(a, b)?)),
        (Value::Tuple(a), Value::Tuple(b)) => Ok(Value::Tuple(chain(a, b)?)),
        (Value::Bytes(a), Value::Bytes(b)) => {
            budget::text(a.len() + b.len())?;
            Ok(Value::Bytes([&**a, &**b].concat().into()))
        }
        (Value::Str(_), _) => fault(format!("can only concatenate str (not \"{}\") to str", b.type_name())),
        _ => unsupported(Binary::Add, a, b),
    }
}

fn chain(a: &Seq, b: &Seq) -> Res<Rc<Seq>> {
    budget::items(a.items.len() + b.items.len())?;
    Seq::new([&*a.items, &*b.items].concat())
}

fn repeat(a: &Value, b: &Value) -> Res<Value> {
    let (of, count) = match (a.as_int(), b.as_int()) {
        (_, Some(count)) => (a, count),
        (Some(count), _) => (b, count),
        _ => return unsupported(Binary::Mul, a, b),
    };
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    let seq = |seq: &Seq| {
        budget::items(seq.items.len().saturating_mul(count))?;
        let turns = if seq.items.is_empty() { 0 } else { count };
        Seq::new(std::iter::repeat_n(&seq.items, turns).flatten().cloned().collect())
    };
    let room = |size: usize| budget::text(size.saturating_mul(count)).map(|_| if size == 0 { 0 } else { count });
    match of {
        Value::Str(text) => Ok(Value::text(text.repeat(room(text.len())?))),
        Value::Markup(text) => Ok(Value::Markup(text.repeat(room(text.len())?).into())),
        Value::Bytes(bytes) => Ok(Value::Bytes(bytes.repeat(room(bytes.len())?).into())),
        Value::List(of) => Ok(Value::List(seq(of)?)),
        Value::Tuple(of) => Ok(Value::Tuple(seq(of)?)),
        _ => unsupported(Binary::Mul, a, b),
    }
}

pub fn unary(minus: bool, a: &Value) -> Res<Value> {
    match a.defined()? {
        Value::Float(number) => Ok(Value::Float(if minus { -number } else { *number })),
        other => match (other.as_int(), minus) {
            (Some(number), false) => Ok(Value::Int(number)),
            (Some(number), true) if number != i128::MIN => Ok(Value::Int(-number)),
            (Some(_), _) => fault("an integer is beyond 128 bits"),
            (None, _) => {
                let sign = if minus { '-' } else { '+' };
                fault(format!("bad operand type for unary {sign}: '{}'", other.type_name()))
            }
        },
    }
}

// ---- comparisons

pub fn equal(a: &Value, b: &Value) -> Res<bool> {
    if let Some(pair) = numbers(a, b) {
        return Ok(match pair {
            Pair::Int(a, b) => a == b,
            Pair::Float(..) => order_numbers(a, b) == Some(Ordering::Equal),
        });
    }
    Ok(match (a, b) {
        (Value::None, Value::None) | (Value::Undefined(_), Value::Undefined(_)) => true,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            Rc::ptr_eq(a, b) || all_equal(&a.items, &b.items)?
        }
        (Value::Dict(a), Value::Dict(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (key, value) in a.iter() {
                budget::step()?;
                match b.get(key)? {
                    Some(other) if equal(value, other)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Range(a), Value::Range(b)) => {
            let same_step = a.length < 2 || a.step == b.step;
            a.length == b.length && (a.length == 0 || (a.start == b.start && same_step))
        }
        (Value::Object(a), Value::Object(b)) => Rc::ptr_eq(a, b),
        _ => match (a.as_str(), b.as_str()) {
            (Some(a), Some(b)) if a.len() == b.len() => {
                budget::bytes(a.len())?;
                a == b
            }
            _ => false,
        },
    })
}

/// Counts every item: lists that hold one another many times are small, but long to compare.
pub fn all_equal(a: &[Value], b: &[Value]) -> Res<bool> {
    if a.len() != b.len() {
        return Ok(false);
    }
    for (a, b) in a.iter().zip(b) {
        budget::step()?;
        if !equal(a, b)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where the first item that is equal stands.
pub fn position(items: &[Value], wanted: &Value) -> Res<Option<usize>> {
    budget::steps(items.len() / 4)?;
    for (index, item) in items.iter().enumerate() {
        if equal(item, wanted)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// A stable sort. `before` may fail, and may know no order (nan): the standard library's sort may panic then.
pub fn sort<T>(mut items: Vec<T>, before: &mut impl FnMut(&T, &T) -> Res<bool>) -> Res<Vec<T>> {
    if items.len() < 2 {
        return Ok(items);
    }
    let right = items.split_off(items.len() / 2);
    let mut out = Vec::with_capacity(items.len() + right.len());
    let mut left = sort(items, before)?.into_iter().peekable();
    let mut right = sort(right, before)?.into_iter().peekable();
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let next = if before(b, a)? { right.next() } else { left.next() };
        out.extend(next);
    }
    out.extend(left);
    out.extend(right);
    Ok(out)
}

fn order_numbers(a: &Value, b: &Value) -> Option<Ordering> {
    match numbers(a, b)? {
        Pair::Int(a, b) => Some(a.cmp(&b)),
        Pair::Float(x, y) => {
            // An integer beyond 2^53 is not rounded for the comparison.
            match (a.as_int(), b.as_int(), whole(x), whole(y)) {
                (Some(a), _, _, Some(y)) => Some(a.cmp(&y)),
                (_, Some(b), Some(x), _) => Some(x.cmp(&b)),
                _ => x.partial_cmp(&y),
            }
        }
    }
}

/// How a stands to b; nothing where a number is none (nan).
pub fn order(sign: &str, a: &Value, b: &Value) -> Res<Option<Ordering>> {
    a.defined()?;
    b.defined()?;
    if numbers(a, b).is_some() {
        return Ok(order_numbers(a, b));
    }
    match (a, b) {
        (Value::Bytes(a), Value::Bytes(b)) => return Ok(Some(a.cmp(b))),
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            for (a, b) in a.items.iter().zip(&b.items) {
                budget::step()?;
                if !equal(a, b)? {
                    return order(sign, a, b);
                }
            }
            return Ok(Some(a.items.len().cmp(&b.items.len())));
        }
        _ => {}
    }
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        budget::bytes(a.len().min(b.len()))?;
        return Ok(Some(a.cmp(b)));
    }
    let (a, b) = (a.type_name(), b.type_name());
    fault(format!("'{sign}' not supported between instances of '{a}' and '{b}'"))
}

pub fn compare(op: Compare, a: &Value, b: &Value) -> Res<bool> {
    Ok(match op {
        Compare::Eq => equal(a, b)?,
        Compare::Ne => !equal(a, b)?,
        Compare::Lt => order("<", a, b)?.is_some_and(Ordering::is_lt),
        Compare::Le => order("<=", a, b)?.is_some_and(Ordering::is_le),
        Compare::Gt => order(">", a, b)?.is_some_and(Ordering::is_gt),
        Compare::Ge => order(">=", a, b)?.is_some_and(Ordering::is_ge),
        Compare::In => contains(b, a)?,
        Compare::NotIn => !contains(b, a)?,
    })
}

pub fn contains(container: &Value, item: &Value) -> Res<bool> {
    if let Some(text) = container.as_str() {
        budget::bytes(text.len())?;
        return match item.as_str() {
            Some(part) => Ok(text.contains(part)),
            None => fault(format!(
                "'in <string>' requires string as left operand, not {}",
                item.type_name()
            )),
        };
    }
    let any = |items: &[Value]| Ok(position(items, item)?.is_some());
    match container {
        Value::List(seq) | Value::Tuple(seq) => any(&seq.items),
        Value::Dict(dict) => Ok(dict.get(item)?.is_some()),
        Value::Object(object) => match &**object {
            Object::View(dict, View::Keys) => Ok(dict.get(item)?.is_some()),
            _ => any(&container.items().or_else(|_| not_iterable(container))?),
        },
        other => any(&other.items().or_else(|_| not_iterable(container))?),
    }
}

fn not_iterable<T>(value: &Value) -> Res<T> {
    fault(format!("argument of type '{}' is not iterable", value.type_name()))
}

// ---- subscripts

/// value[key] where Python has it; nothing where Jinja2 would go on to look for an attribute.
pub fn item(value: &Value, key: &Value) -> Res<Option<Value>> {
    let place = |length: usize| {
        let index = key.as_int()?;
        let index = if index < 0 { index + length as i128 } else { index };
        usize::try_from(index).ok().filter(|i| *i < length)
    };
    Ok(match value.defined()? {
        Value::List(seq) | Value::Tuple(seq) => place(seq.items.len()).map(|i| seq.items[i].clone()),
        Value::Dict(dict) => dict.get(key).ok().flatten().cloned(),
        Value::Str(text) | Value::Markup(text) => {
            budget::bytes(text.len())?;
            let at = match text.is_ascii() {
                true => place(text.len()).map(|i| text[i..=i].to_string()),
                false => place(text.chars().count())
                    .and_then(|i| text.chars().nth(i))
                    .map(String::from),
            };
            at.map(Value::text)
        }
        Value::Bytes(bytes) => place(bytes.len()).map(|i| Value::Int(i128::from(bytes[i]))),
        Value::Range(range) => place(range.length as usize).map(|i| range.get(i as i64)),
        Value::Object(object) => match &**object {
            Object::Group(key, list) => place(2).map(|i| if i == 0 { key.clone() } else { list.clone() }),
            _ => None,
        },
        _ => None,
    })
}

/// The first index, the one behind the last, the step and how many there are.
fn bounds(length: usize, parts: &[Option<Value>; 3]) -> Res<(i128, i128, i128, usize)> {
    let mut numbers = [None; 3];
    for (number, part) in numbers.iter_mut().zip(parts) {
        *number = match part {
            None | Some(Value::None) => None,
            Some(value) if value.as_int().is_none() => {
                return fault("slice indices must be integers or None or have an __index__ method");
            }
            Some(value) => value.as_int(),
        };
    }
    let length = length as i128;
    let step = numbers[2].unwrap_or(1);
    if step == 0 {
        return fault("slice step cannot be zero");
    }
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let place = |number: Option<i128>, otherwise: i128| match number {
        None => otherwise,
        Some(n) if n < 0 => n.saturating_add(length).max(low),
        Some(n) => n.min(high),
    };
    let start = place(numbers[0], if step > 0 { low } else { high });
    let stop = place(numbers[1], if step > 0 { high } else { low });
    let distance = if step > 0 { stop - start } else { start - stop };
    let count = if distance <= 0 {
        0
    } else {
        (distance - 1) / step.saturating_abs() + 1
    };
    Ok((start, stop, step, count as usize))
}

pub fn slice(value: &Value, parts: &[Option<Value>; 3]) -> Res<Value> {
    let Some(length) = value.defined()?.length()? else {
        return fault(format!("'{}' object is not subscriptable", value.type_name()));
    };
    let (start, stop, step, count) = bounds(length, parts)?;
    let at = |i: usize| (start + step * i as i128) as usize;
    let seq = |seq: &Seq| {
        budget::items(count)?;
        Seq::new((0..count).map(|i| seq.items[at(i)].clone()).collect())
    };
    Ok(match value {
        Value::List(of) => Value::List(seq(of)?),
        Value::Tuple(of) => Value::Tuple(seq(of)?),
        Value::Str(text) | Value::Markup(text) => {
            budget::bytes(text.len())?;
            if step == 1 && text.is_ascii() {
                return Ok(Value::text(&text[at(0)..at(0) + count]));
            }
            let characters: Vec<char> = text.chars().collect();
            Value::text((0..count).map(|i| characters[at(i)]).collect::<String>())
        }
        Value::Bytes(bytes) => Value::Bytes((0..count).map(|i| bytes[at(i)]).collect()),
        Value::Range(range) => {
            let near = |number: i128| number.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
            Value::Range(Range {
                start: near(range.start as i128 + range.step as i128 * start),
                step: near((range.step as i128).saturating_mul(step)),
                stop: near(range.start as i128 + range.step as i128 * stop),
                length: count as i64,
            })
        }
        other => return fault(format!("'{}' object is not subscriptable", other.type_name())),
    })
}

/// int(value) and float(value) of a number; nothing for other values.
pub fn truncate(value: &Value) -> Option<i128> {
    match value {
        Value::Float(number) => whole(number.trunc()),
        other => other.as_int(),
    }
}

pub fn to_float(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(*number),
        Value::Str(text) | Value::Markup(text) => number::parse_float(text),
        other => other.as_int().map(|n| n as f64),
    }
}

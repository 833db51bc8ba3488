//! The functions that every template has.
use super::args::Args;
use super::repr::to_str;
use super::scope;
use super::value::{Object, Range, Value};
use super::{budget, fault, Dict, Fault, Res};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::SystemTime;

pub const NAMES: [&str; 7] = [
    "range",
    "dict",
    "namespace",
    "cycler",
    "joiner",
    "raise_exception",
    "strftime_now",
];

/// Transformers' sandbox has the same bound.
const MAX_RANGE: i128 = 100_000;

pub fn call(name: &str, args: Args) -> Res<Value> {
    match name {
        "range" => range(args),
        "dict" => Ok(Value::Dict(Rc::new(dict(args)?))),
        "namespace" => {
            budget::items(8)?;
            let members = dict(args)?;
            let depth = members.depth();
            let space = Rc::new(Object::Namespace(RefCell::new(members), Cell::new(depth)));
            scope::hold_namespace(&space);
            Ok(Value::Object(space))
        }
        "cycler" => {
            if args.positional.is_empty() || !args.named.is_empty() {
                return fault("at least one item has to be provided");
            }
            let depth = super::value::deepest(args.positional.iter())?;
            Ok(Value::object(Object::Cycler(args.positional, Cell::new(0), depth)))
        }
        "joiner" => {
            let args = args.bind("joiner", &["sep"])?;
            let separator = args.maybe_text(0)?.unwrap_or(", ");
            Ok(Value::object(Object::Joiner(separator.into(), Cell::new(false))))
        }
        "raise_exception" => {
            let args = args.bind("raise_exception", &["message"])?;
            Err(Box::new(Fault {
                message: to_str(args.need(0)?)?.into_owned(),
                line: None,
                raised: true,
            }))
        }
        _ => strftime_now(args.bind("strftime_now", &["format"])?.text(0)?),
    }
}

/// dict(mapping or pairs, name=value, …).
fn dict(args: Args) -> Res<Dict> {
    let mut out = Dict::default();
    if args.positional.len() > 1 {
        return fault(format!(
            "dict expected at most 1 argument, got {}",
            args.positional.len()
        ));
    }
    match args.positional.first() {
        Some(Value::Dict(dict)) => out = dict.copy()?,
        Some(pairs) => {
            for pair in pairs.defined()?.items()? {
                match <[Value; 2]>::try_from(pair.items()?) {
                    Ok([key, value]) => out.insert(key, value)?,
                    Err(_) => return fault("dictionary update sequence elements must have length 2"),
                }
            }
        }
        None => {}
    }
    for (name, value) in args.named {
        out.insert(Value::Str(name), value)?;
    }
    Ok(out)
}

fn range(args: Args) -> Res<Value> {
    let mut numbers = Vec::new();
    for value in &args.positional {
        match value.defined()?.as_int() {
            Some(number) => numbers.push(number),
            None => {
                return fault(format!(
                    "'{}' object cannot be interpreted as an integer",
                    value.type_name()
                ))
            }
        }
    }
    let (start, stop, step) = match numbers[..] {
        [stop] => (0, stop, 1),
        [start, stop] => (start, stop, 1),
        [start, stop, step] => (start, stop, step),
        _ => return fault(format!("range expected 1 to 3 arguments, got {}", numbers.len())),
    };
    if step == 0 {
        return fault("range() arg 3 must not be zero");
    }
    let distance = if step > 0 {
        stop.saturating_sub(start)
    } else {
        start.saturating_sub(stop)
    };
    let length = if distance <= 0 {
        0
    } else {
        (distance - 1) / step.saturating_abs() + 1
    };
    if length > MAX_RANGE {
        return fault(format!(
            "Range too big. The sandbox blocks ranges larger than MAX_RANGE ({MAX_RANGE})."
        ));
    }
    match (i64::try_from(start), i64::try_from(step)) {
        (Ok(start), Ok(step)) => Ok(Value::Range(Range {
            start,
            stop: i64::try_from(stop).unwrap_or(if step > 0 { i64::MAX } else { i64::MIN }),
            step,
            length: length as i64,
        })),
        _ => fault("range: a number is beyond 64 bits"),
    }
}

/// Python's own letters: %f is microseconds; %z and %Z are nothing, as a time without a zone has none.
fn of_python(format: &str, microseconds: u32) -> String {
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let letter = rest[at + 1..].chars().next();
        let end = at + 1 + letter.map_or(0, char::len_utf8);
        match letter {
            Some('f') => out.push_str(&format!("{microseconds:06}")),
            Some('z' | 'Z') => {}
            _ => out.push_str(&rest[at..end]),
        }
        rest = &rest[end..];
    }
    out + rest
}

/// strftime of the local time, as Transformers' `datetime.now().strftime(format)`.
fn strftime_now(format: &str) -> Res<Value> {
    if format.len() > 256 {
        return fault("strftime_now: the format is longer than 256 bytes");
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let Ok(format) = std::ffi::CString::new(of_python(format, now.subsec_micros())) else {
        return fault("strftime_now: the format contains a zero byte");
    };
    if format.is_empty() {
        return Ok(Value::text(""));
    }
    let mut out = [0u8; 4096];
    // SAFETY: all pointers are to live local values of the right sizes.
    let size = unsafe {
        let now = now.as_secs() as libc::time_t;
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&now, &mut parts).is_null() {
            return fault("strftime_now: no local time");
        }
        libc::strftime(out.as_mut_ptr().cast(), out.len(), format.as_ptr(), &parts)
    };
    Ok(Value::text(String::from_utf8_lossy(&out[..size])))
}

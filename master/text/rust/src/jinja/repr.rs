//! str() and repr().
use super::number::float_repr;
use super::value::{Object, Value, View};
use super::{budget, Res};
use std::borrow::Cow;
use std::fmt::Write;

/// str(value).
pub fn to_str(value: &Value) -> Res<Cow<'_, str>> {
    match value {
        Value::Str(text) | Value::Markup(text) => Ok(Cow::Borrowed(text)),
        Value::Undefined(_) => Ok(Cow::Borrowed("")),
        other => {
            let mut out = String::new();
            write_repr(&mut out, other)?;
            budget::text(out.len())?;
            Ok(Cow::Owned(out))
        }
    }
}

/// repr(value).
pub fn repr(value: &Value) -> Res<String> {
    let mut out = String::new();
    write_repr(&mut out, value)?;
    budget::text(out.len())?;
    Ok(out)
}

fn write_items<'a>(out: &mut String, items: impl Iterator<Item = &'a Value>) -> Res<()> {
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_repr(out, item)?;
        budget::step()?;
        // A list may hold one long text many times.
        budget::output(out.len())?;
    }
    Ok(())
}

fn write_tuple<'a>(out: &mut String, items: impl ExactSizeIterator<Item = &'a Value>) -> Res<()> {
    let single = items.len() == 1;
    out.push('(');
    write_items(out, items)?;
    out.push_str(if single { ",)" } else { ")" });
    Ok(())
}

fn write_dict(out: &mut String, dict: &super::Dict) -> Res<()> {
    out.push('{');
    for (index, (key, value)) in dict.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_repr(out, key)?;
        out.push_str(": ");
        write_repr(out, value)?;
        budget::step()?;
        budget::output(out.len())?;
    }
    out.push('}');
    Ok(())
}

fn write_repr(out: &mut String, value: &Value) -> Res<()> {
    let _level = budget::level()?; // a namespace may hold itself, or others that go deep
    let written = match value {
        Value::Undefined(_) => write!(out, "Undefined"),
        Value::None => write!(out, "None"),
        Value::Bool(true) => write!(out, "True"),
        Value::Bool(false) => write!(out, "False"),
        Value::Int(number) => write!(out, "{number}"),
        Value::Float(number) => write!(out, "{}", float_repr(*number)),
        Value::Str(text) => {
            string_repr(out, text);
            Ok(())
        }
        Value::Markup(text) => {
            out.push_str("Markup(");
            string_repr(out, text);
            write!(out, ")")
        }
        Value::Bytes(bytes) => {
            bytes_repr(out, bytes);
            Ok(())
        }
        Value::List(seq) => {
            out.push('[');
            write_items(out, seq.items.iter())?;
            write!(out, "]")
        }
        Value::Tuple(seq) => return write_tuple(out, seq.items.iter()),
        Value::Dict(dict) => return write_dict(out, dict),
        Value::Range(range) => match range.step {
            1 => write!(out, "range({}, {})", range.start, range.stop),
            step => write!(out, "range({}, {}, {step})", range.start, range.stop),
        },
        Value::Object(object) => return write_object(out, object, value),
    };
    written.map_err(|_| unreachable!())
}

fn write_object(out: &mut String, object: &Object, value: &Value) -> Res<()> {
    match object {
        Object::Namespace(members, _) => {
            out.push_str("<Namespace ");
            write_dict(out, &members.borrow())?;
            out.push('>');
        }
        Object::Group(key, list) => return write_tuple(out, [key, list].into_iter()),
        Object::View(dict, View::Items) => {
            out.push_str("dict_items([");
            for (index, (key, value)) in dict.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_tuple(out, [key, value].into_iter())?;
                budget::output(out.len())?;
            }
            out.push_str("])");
        }
        Object::View(dict, kind) => {
            out.push_str(if *kind == View::Keys {
                "dict_keys(["
            } else {
                "dict_values(["
            });
            match kind {
                View::Keys => write_items(out, dict.keys())?,
                _ => write_items(out, dict.values())?,
            }
            out.push_str("])");
        }
        Object::Macro(value) => {
            out.push_str("<Macro ");
            string_repr(out, &value.code.name);
            out.push('>');
        }
        Object::Loop(state) => {
            let _ = write!(out, "<LoopContext {}/{}>", state.index.get() + 1, state.items.len());
        }
        Object::Method(of, name) => {
            let _ = write!(out, "<built-in method {name} of {} object>", of.type_name());
        }
        Object::Function(name) => {
            let _ = write!(out, "<function {name}>");
        }
        Object::Iterator(name, ..) => {
            let _ = write!(out, "<generator object {name}>");
        }
        Object::Cycler(..) | Object::Joiner(..) => {
            let _ = write!(out, "<{} object>", value.type_name());
        }
    }
    Ok(())
}

fn string_repr(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if super::strings::is_printable(c) => out.push(c),
            c => escape(out, c),
        }
    }
    out.push(quote);
}

fn escape(out: &mut String, c: char) {
    let _ = match c as u32 {
        code @ 0..=0xff => write!(out, "\\x{code:02x}"),
        code @ 0x100..=0xffff => write!(out, "\\u{code:04x}"),
        code => write!(out, "\\U{code:08x}"),
    };
}

/// ascii(value).
pub fn ascii(value: &Value) -> Res<String> {
    let mut out = String::new();
    for c in repr(value)?.chars() {
        match c.is_ascii() {
            true => out.push(c),
            false => escape(&mut out, c),
        }
    }
    Ok(out)
}

fn bytes_repr(out: &mut String, bytes: &[u8]) {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') {
        '"'
    } else {
        '\''
    };
    out.push('b');
    out.push(quote);
    for byte in bytes {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'\\' => out.push_str("\\\\"),
            b if *b as char == quote => {
                out.push('\\');
                out.push(quote);
            }
            0x20..=0x7e => out.push(*byte as char),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.push(quote);
}

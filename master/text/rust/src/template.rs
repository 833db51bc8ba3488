//! Chat templates: minijinja made to behave as Transformers' Jinja2 environment (trim_blocks, lstrip_blocks, loop controls, Python's
//! methods, raise_exception, strftime_now, tojson), under an instruction budget and an output cap.
use crate::boundary::{bytes, free_handle, guard, text, Buffer};
use crate::python::{to_json, to_str, JsonStyle};
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use std::io::{self, Write};

pub struct Handle(Environment<'static>);

const NAME: &str = "chat_template";
/// Instructions of one rendering. A conversation of a thousand messages takes about 10^5.
const FUEL: u64 = 5_000_000;
const MAX_SOURCE: usize = 1 << 20;
const MAX_INDENT: usize = 16;
/// Marks an error that the template itself raised, so that its words go out alone.
const RAISED: &str = "\u{1}raised:";

struct Capped {
    out: Vec<u8>,
    limit: usize,
}

impl Write for Capped {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.len() > self.limit - self.out.len() {
            return Err(io::Error::other(format!(
                "the output is longer than {} bytes",
                self.limit
            )));
        }
        self.out.extend_from_slice(data);
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    Err(Error::new(
        ErrorKind::InvalidOperation,
        format!("{RAISED}{}", to_str(message)?),
    ))
}

/// strftime of the local time, as Transformers' `datetime.now().strftime(format)`.
fn strftime_now(format: &str) -> Result<String, Error> {
    let refused = |why: &str| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {why}"));
    if format.len() > 256 {
        return Err(refused("the format is longer than 256 bytes"));
    }
    if format.is_empty() {
        return Ok(String::new());
    }
    let format = std::ffi::CString::new(format).map_err(|_| refused("the format contains a zero byte"))?;
    let mut out = [0u8; 4096];
    // SAFETY: all pointers are to live local values of the right sizes.
    let size = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&now, &mut parts).is_null() {
            return Err(refused("no local time"));
        }
        libc::strftime(out.as_mut_ptr().cast(), out.len(), format.as_ptr(), &parts)
    };
    Ok(String::from_utf8_lossy(&out[..size]).into_owned())
}

fn tojson(value: &Value, positional: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    if positional.len() > 1 {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let ensure_ascii = match positional.first() {
        Some(first) => first.is_true(),
        None => kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    let indent: Option<usize> = kwargs.get("indent")?;
    if indent.is_some_and(|i| i > MAX_INDENT) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("tojson: indent is above {MAX_INDENT}"),
        ));
    }
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let sort_keys = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let (item_separator, key_separator) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "tojson: separators takes two strings",
            ))
        }
        None => (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string()),
    };
    to_json(
        value,
        &JsonStyle {
            indent,
            ensure_ascii,
            sort_keys,
            item_separator,
            key_separator,
        },
    )
}

/// Transformers' `{% generation %}` marks what a trainer learns from; a server writes what is inside.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let inside = &rest[start + 2..start + length];
        let bare = inside.trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        let replacement = match bare {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => "",
        };
        if replacement.is_empty() {
            // Only the opening is passed over: a string inside the tag may contain "%}".
            out.push_str(&rest[..start + 2]);
            rest = &rest[start + 2..];
            continue;
        }
        out.push_str(&rest[..start + 2]);
        out.push_str(&inside.replace(bare, &format!(" {replacement} ")));
        out.push_str("%}");
        rest = &rest[start + length + 2..];
    }
    out.push_str(rest);
    out
}

fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_trim_blocks(true);
    env.set_lstrip_blocks(true);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.set_formatter(|out, _, value| match value.as_str() {
        Some(text) => out.write_str(text).map_err(Error::from),
        None => out.write_str(&to_str(value)?).map_err(Error::from),
    });
    env.set_fuel(Some(FUEL));
    env.add_function("raise_exception", |message: &Value| raise_exception(message));
    env.add_function("strftime_now", strftime_now);
    env.add_filter("tojson", tojson);
    // As Jinja2 has it: a string and a mapping are sequences, too; none is not iterable.
    let sequence = |kind: ValueKind| matches!(kind, ValueKind::String | ValueKind::Seq | ValueKind::Map);
    env.add_test("sequence", move |value: &Value| sequence(value.kind()));
    env.add_test("iterable", move |value: &Value| {
        sequence(value.kind()) || value.kind() == ValueKind::Iterable
    });
    env.add_filter("string", |value: &Value| to_str(value));
    env
}

/// The template's own words when it raised, else what the engine says and where.
fn describe(error: &Error) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut last_io = None;
    while let Some(current) = cause {
        if let Some(detail) = current.downcast_ref::<Error>().and_then(Error::detail) {
            if let Some(message) = detail.strip_prefix(RAISED) {
                return message.to_string();
            }
        }
        if let Some(failure) = current.downcast_ref::<io::Error>() {
            last_io = Some(failure.to_string());
        }
        cause = current.source();
    }
    last_io.unwrap_or_else(|| error.to_string())
}

fn load(source: &str) -> Result<Handle, String> {
    if source.len() > MAX_SOURCE {
        return Err(format!("the template is longer than {MAX_SOURCE} bytes"));
    }
    let mut env = environment();
    env.add_template_owned(NAME, without_generation_tags(source))
        .map_err(|e| describe(&e))?;
    Ok(Handle(env))
}

fn render(env: &Environment<'static>, context: &[u8], max_output: usize) -> Result<Vec<u8>, String> {
    let context: serde_json::Value = serde_json::from_slice(context).map_err(|e| format!("context: {e}"))?;
    let template = env.get_template(NAME).map_err(|e| describe(&e))?;
    let mut sink = Capped {
        out: Vec::new(),
        limit: max_output,
    };
    template
        .render_captured_to(Value::from_serialize(&context), &mut sink)
        .map_err(|e| describe(&e))?;
    Ok(sink.out)
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_template_load(
    source: *const u8,
    size: usize,
    out: *mut *mut Handle,
    error: *mut Buffer,
) -> i32 {
    guard(out, error, || Ok(Box::into_raw(Box::new(load(text(source, size)?)?))))
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_template_free(template: *mut Handle) {
    free_handle(template);
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_template_render(
    template: *const Handle,
    context: *const u8,
    size: usize,
    max_output: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(out, error, || {
        Ok(Buffer::from(render(&(*template).0, bytes(context, size), max_output)?))
    })
}

//! Chat templates behind the C ABI, and the marks that keep a client's text from being taken for special tokens
//! (chat.h).
use crate::boundary::{free_handle, guard, text, Buffer};
use crate::jinja::value::Value;
use crate::jinja::{budget, json, Dict, Fault, Res, Template};
use std::collections::BTreeSet;
use std::rc::Rc;

/// Nesting of messages and template arguments.
const MAX_DEPTH: usize = 65;
const MAX_PROBES: usize = 8;
/// Where the mark is looked for: private-use characters.
const MARKS: std::ops::Range<u32> = 0xf0000..0xf1000;

#[repr(C)]
pub struct Text {
    data: *const u8,
    size: usize,
}

#[repr(C)]
pub struct Spellings {
    tokens: *const std::ffi::c_void,
    at: unsafe extern "C" fn(*const std::ffi::c_void, *const u8, usize, usize) -> usize,
    open_end: unsafe extern "C" fn(*const std::ffi::c_void, *const u8, usize) -> usize,
}

#[repr(C)]
pub struct Chat {
    messages: Text,
    kwargs: Text,
    names: Text,
    add_generation_prompt: i32,
    max_output: usize,
}

// Many threads render one template.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Template>();
};

/// A request's values, parsed once.
struct Conversation {
    messages: Vec<Value>,
    kwargs: Value,
    names: Rc<Dict>,
    add_generation_prompt: bool,
    max_output: usize,
}

unsafe fn parsed(name: &str, json: &Text) -> Result<Value, String> {
    let said = |why: String| format!("{name}: {why}");
    json::parse(text(json.data, json.size).map_err(said)?, MAX_DEPTH).map_err(said)
}

fn object(name: &str, value: Value) -> Result<Rc<Dict>, String> {
    match value {
        Value::Dict(dict) => Ok(dict),
        _ => Err(format!("{name}: not an object")),
    }
}

impl Conversation {
    unsafe fn new(chat: &Chat) -> Result<Conversation, String> {
        let Value::List(messages) = parsed("messages", &chat.messages)? else {
            return Err("messages: not an array".into());
        };
        let kwargs = object("chat_template_kwargs", parsed("chat_template_kwargs", &chat.kwargs)?)?;
        Ok(Conversation {
            messages: messages.items.clone(),
            kwargs: Value::Dict(kwargs),
            names: object("names", parsed("names", &chat.names)?)?,
            add_generation_prompt: chat.add_generation_prompt != 0,
            max_output: chat.max_output,
        })
    }

    /// The variables that Transformers' apply_chat_template gives.
    fn render(&self, template: &Template, messages: Vec<Value>, kwargs: &Value) -> Result<String, String> {
        let prepared = || {
            let mut context = (*self.names).clone();
            for name in ["tools", "documents"] {
                context.insert(Value::text(name), Value::None)?;
            }
            if let Value::Dict(kwargs) = kwargs {
                for (name, value) in kwargs.iter() {
                    context.insert(name.clone(), value.clone())?;
                }
            }
            context.insert(Value::text("messages"), Value::list(messages)?)?;
            let prompt = Value::Bool(self.add_generation_prompt);
            context.insert(Value::text("add_generation_prompt"), prompt)?;
            Ok(Rc::new(context))
        };
        let rendered = template.render(prepared, self.max_output);
        rendered.map_err(|why| format!("chat template: {why}"))
    }
}

/// Every string of a value, names of members included, through `change`.
fn walk(value: &Value, change: &mut dyn FnMut(&str) -> Option<String>) -> Res<Value> {
    Ok(match value {
        Value::Str(text) => change(text).map_or_else(|| value.clone(), Value::text),
        Value::List(seq) => Value::list(seq.items.iter().map(|i| walk(i, change)).collect::<Res<_>>()?)?,
        Value::Dict(dict) => {
            let mut out = Dict::default();
            for (key, value) in dict.iter() {
                out.insert(walk(key, change)?, walk(value, change)?)?;
            }
            Value::Dict(Rc::new(out))
        }
        other => other.clone(),
    })
}

fn from_assistant(message: &Value) -> bool {
    matches!(message, Value::Dict(dict) if dict.text("role").and_then(Value::as_str) == Some("assistant"))
}

impl Spellings {
    /// The length of the longest special token that begins at text[at]; 0: none.
    fn at(&self, text: &str, at: usize) -> usize {
        // SAFETY: pointer and length are of one text; the caller's function only reads it.
        unsafe { (self.at)(self.tokens, text.as_ptr(), text.len(), at) }
    }

    fn open_end(&self, text: &str) -> bool {
        // SAFETY: as above.
        unsafe { (self.open_end)(self.tokens, text.as_ptr(), text.len()) > 0 }
    }

    /// Where a mark belongs: after the first character of each spelling (but of those in `keep`), and behind an end
    /// that begins one. What a template may trim does not keep a beginning from meeting its end.
    fn mark(&self, text: &str, mark: char, keep: &BTreeSet<String>) -> Option<String> {
        let mut out = String::new();
        let mut done = 0;
        for (at, c) in text.char_indices() {
            let length = self.at(text, at);
            if length == 0 || text.get(at..at + length).is_some_and(|s| keep.contains(s)) {
                continue;
            }
            let end = at + c.len_utf8();
            out.push_str(&text[done..end]);
            out.push(mark);
            done = end;
        }
        let end = text.trim_end_matches([' ', '\t', '\r', '\n', '\x0c', '\x0b']).len();
        if end > done && self.open_end(&text[..end]) {
            out.push_str(&text[done..end]);
            out.push(mark);
            done = end;
        }
        (done > 0).then(|| out + &text[done..])
    }
}

/// A conversation whose texts carry marks.
struct Marker<'a> {
    conversation: &'a Conversation,
    spellings: &'a Spellings,
    mark: char,
}

impl Marker<'_> {
    /// `look` at every text of the messages, or of the assistant's alone, and of the arguments.
    fn look(&self, assistant: bool, look: &mut dyn FnMut(&str)) -> Result<(), String> {
        let _budget = budget::start(usize::MAX);
        let mut change = |text: &str| {
            look(text);
            None
        };
        let messages = self
            .conversation
            .messages
            .iter()
            .filter(|m| !assistant || from_assistant(m));
        for value in messages.chain((!assistant).then_some(&self.conversation.kwargs)) {
            walk(value, &mut change).map_err(|f| f.to_string())?;
        }
        Ok(())
    }

    /// A private-use character that occurs nowhere in the input.
    fn unused_mark(&self) -> Result<char, String> {
        let mut used = BTreeSet::new();
        self.look(false, &mut |text| {
            used.extend(text.chars().filter(|c| MARKS.contains(&(*c as u32))))
        })?;
        let unused = MARKS.filter_map(char::from_u32).find(|c| !used.contains(c));
        unused.ok_or("messages: every one of the characters U+F0000 to U+F0FFF is in use".into())
    }

    /// `keep`: spellings that stay as they are in what the assistant said.
    fn render(&self, template: &Template, keep: &BTreeSet<String>) -> Result<String, String> {
        let _budget = budget::start(usize::MAX);
        let none = BTreeSet::new();
        let marked = |value: &Value, keep| walk(value, &mut |text| self.spellings.mark(text, self.mark, keep));
        let message = |m| marked(m, if from_assistant(m) { keep } else { &none });
        let messages = self.conversation.messages.iter().map(message).collect::<Res<_>>();
        let kwargs = marked(&self.conversation.kwargs, &none);
        let said = |f: Box<Fault>| f.to_string();
        self.conversation
            .render(template, messages.map_err(said)?, &kwargs.map_err(said)?)
    }

    fn spelled_by_assistant(&self) -> Result<BTreeSet<String>, String> {
        let mut out = BTreeSet::new();
        self.look(true, &mut |text| {
            for (at, _) in text.char_indices() {
                let length = self.spellings.at(text, at);
                out.extend(text.get(at..at + length).filter(|s| !s.is_empty()).map(String::from));
            }
        })?;
        Ok(out)
    }
}

fn render_marked(
    template: &Template,
    conversation: &Conversation,
    spellings: &Spellings,
) -> Result<(String, char), String> {
    let mut marker = Marker {
        conversation,
        spellings,
        mark: '\0',
    };
    marker.mark = marker.unused_mark()?;
    let text = marker.render(template, &BTreeSet::new())?;
    let spelled = marker.spelled_by_assistant()?;
    let mut whole = BTreeSet::new();
    if spelled.len() <= MAX_PROBES {
        // A template that looks for a spelling writes something else when it finds it whole.
        let plain = text.replace(marker.mark, "");
        for spelling in spelled {
            let probe = marker.render(template, &BTreeSet::from([spelling.clone()]))?;
            if probe.replace(marker.mark, "") != plain {
                whole.insert(spelling);
            }
        }
    }
    match whole.is_empty() {
        true => Ok((text, marker.mark)),
        false => Ok((marker.render(template, &whole)?, marker.mark)),
    }
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_template_load(
    source: *const u8,
    size: usize,
    out: *mut *mut Template,
    error: *mut Buffer,
) -> i32 {
    guard(out, error, || {
        let template = text(source, size).and_then(Template::load);
        Ok(Box::into_raw(Box::new(
            template.map_err(|why| format!("chat template: {why}"))?,
        )))
    })
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_template_free(template: *mut Template) {
    free_handle(template);
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_template_render(
    template: *const Template,
    chat: *const Chat,
    spellings: *const Spellings,
    out: *mut [Buffer; 2],
    error: *mut Buffer,
) -> i32 {
    guard(out, error, || {
        let conversation = Conversation::new(&*chat)?;
        let (text, mark) = match spellings.as_ref() {
            Some(spellings) => {
                let (text, mark) = render_marked(&*template, &conversation, spellings)?;
                (text, mark.to_string())
            }
            None => {
                let messages = conversation.messages.clone();
                (
                    conversation.render(&*template, messages, &conversation.kwargs)?,
                    String::new(),
                )
            }
        };
        Ok([text, mark].map(|t| Buffer::from(t.into_bytes())))
    })
}

//! The line editor of `pangea chat` behind a C ABI; clients/line_editor.cc is its only caller. Lines are UTF-8 of any
//! length and may hold line feeds: a bracketed paste is inserted as it is, Alt-Enter and one backslash before Enter
//! begin a new line. A panic is caught and reads as a failure.
use std::ffi::c_void;
use std::io::ErrorKind;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, ConditionalEventHandler, Config, Context, Editor, Event, EventContext, EventHandler, Helper, KeyCode,
    KeyEvent, Modifiers, Movement, RepeatCount,
};

const HISTORY_ENTRIES: usize = 1000;
const HISTORY_ENTRY_BYTES: usize = 32 << 10; // a longer message is not remembered

pub struct LineEditor {
    editor: Editor<Continuation, FileHistory>,
    history: Option<PathBuf>,
    line: String,
}

/// Enter after one backslash at the end of the text: the backslash becomes a line feed, and the message is not sent.
/// A key can be bound to one command alone; the only one that replaces text before the cursor is completion, so the
/// line feed is "completed" from the backslash.
struct Continuation;
impl ConditionalEventHandler for Continuation {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, at: &EventContext) -> Option<Cmd> {
        let one = at.line().ends_with('\\') && !at.line().ends_with("\\\\");
        (one && at.pos() == at.line().len()).then_some(Cmd::Complete)
    }
}
impl Completer for Continuation {
    type Candidate = String;
    fn complete(&self, line: &str, pos: usize, _: &Context) -> rustyline::Result<(usize, Vec<String>)> {
        Ok((
            line[..pos].strip_suffix('\\').unwrap_or(line).len(),
            vec!["\n".to_owned()],
        ))
    }
}
impl Hinter for Continuation {
    type Hint = String;
}
impl Highlighter for Continuation {}
impl Validator for Continuation {}
impl Helper for Continuation {}

/// Ctrl-C: drops what was typed; with nothing typed it is the interrupt that ends the chat.
struct Interrupt;
impl ConditionalEventHandler for Interrupt {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, at: &EventContext) -> Option<Cmd> {
        (!at.line().is_empty()).then_some(Cmd::Kill(Movement::WholeBuffer))
    }
}

/// Ctrl-Z. rustyline's own way would leave the terminal in the modes that clients/line_editor.cc has set; a stopped
/// process must leave it in the user's.
struct Suspend {
    call: extern "C" fn(*const c_void),
    owner: usize,
}
impl ConditionalEventHandler for Suspend {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, _: &EventContext) -> Option<Cmd> {
        (self.call)(self.owner as *const c_void);
        Some(Cmd::Repaint)
    }
}

fn make(history: Option<PathBuf>, suspend: Suspend) -> Result<LineEditor, ReadlineError> {
    let config = Config::builder()
        .max_history_size(HISTORY_ENTRIES)?
        .history_ignore_dups(true)?
        .build();
    let mut editor = Editor::with_history(config.clone(), FileHistory::with_config(&config))?;
    for key in [
        KeyEvent(KeyCode::Enter, Modifiers::NONE),
        KeyEvent::ctrl('J'),
        KeyEvent::ctrl('M'),
    ] {
        editor.bind_sequence(key, EventHandler::Conditional(Box::new(Continuation)));
    }
    for key in [
        KeyEvent(KeyCode::Enter, Modifiers::ALT),
        KeyEvent::alt('\r'),
        KeyEvent::alt('\n'),
    ] {
        editor.bind_sequence(key, EventHandler::Simple(Cmd::Newline));
    }
    editor.set_helper(Some(Continuation));
    editor.bind_sequence(
        KeyEvent(KeyCode::Tab, Modifiers::NONE),
        EventHandler::Simple(Cmd::SelfInsert(1, '\t')),
    );
    editor.bind_sequence(KeyEvent::ctrl('C'), EventHandler::Conditional(Box::new(Interrupt)));
    editor.bind_sequence(KeyEvent::ctrl('Z'), EventHandler::Conditional(Box::new(suspend)));
    // The terminal's suspend key is off (clients/line_editor.cc), which rustyline takes for a key of code 0.
    editor.bind_sequence(KeyEvent::ctrl('@'), EventHandler::Simple(Cmd::Noop));
    if let Some(file) = &history {
        let _ = editor.load_history(file); // none yet, or none that can be read: an empty one
    }
    Ok(LineEditor {
        editor,
        history,
        line: String::new(),
    })
}

/// `path`: the history's file, made when it is missing; empty: history only in memory. Null: no editor here. `suspend`
/// is called with `owner` for Ctrl-Z, and returns when the process goes on.
///
/// # Safety
/// `path` points at `length` bytes; `owner` outlives the editor.
#[no_mangle]
pub unsafe extern "C" fn pangea_editor_new(
    path: *const u8,
    length: usize,
    suspend: extern "C" fn(*const c_void),
    owner: *const c_void,
) -> *mut LineEditor {
    let bytes = if length == 0 {
        &[]
    } else {
        std::slice::from_raw_parts(path, length)
    };
    let history = std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.is_empty())
        .map(PathBuf::from);
    let suspend = Suspend {
        call: suspend,
        owner: owner as usize,
    };
    match catch_unwind(|| make(history, suspend)) {
        Ok(Ok(editor)) => Box::into_raw(Box::new(editor)),
        _ => std::ptr::null_mut(),
    }
}

/// Reads one message from the terminal. 0: it lies at `text` until the next call; 1: the end; 2: interrupted; 3:
/// failed; 4: something came that is not UTF-8, and the line is lost.
///
/// # Safety
/// `editor` is of `pangea_editor_new`, and used by one thread at a time.
#[no_mangle]
pub unsafe extern "C" fn pangea_editor_read(editor: *mut LineEditor, text: *mut *const u8, length: *mut usize) -> i32 {
    let this = &mut *editor;
    match catch_unwind(AssertUnwindSafe(|| this.editor.readline("> "))) {
        Ok(Ok(line)) => this.line = line,
        Ok(Err(ReadlineError::Eof)) => return 1,
        Ok(Err(ReadlineError::Interrupted)) => return 2,
        Ok(Err(ReadlineError::Io(error))) if error.kind() == ErrorKind::InvalidData => return 4,
        _ => return 3,
    }
    if !this.line.trim().is_empty() && this.line.len() <= HISTORY_ENTRY_BYTES {
        // A history that cannot be written is no reason to stop talking.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let _ = this.editor.add_history_entry(this.line.as_str());
            if let Some(file) = &this.history {
                let _ = this.editor.append_history(file);
            }
        }));
    }
    if this.line.ends_with("\\ ") {
        this.line.pop(); // the space only kept Enter from continuing the line
    }
    *text = this.line.as_ptr();
    *length = this.line.len();
    0
}

/// # Safety
/// `editor` is of `pangea_editor_new` and not used again.
#[no_mangle]
pub unsafe extern "C" fn pangea_editor_free(editor: *mut LineEditor) {
    drop(Box::from_raw(editor));
}

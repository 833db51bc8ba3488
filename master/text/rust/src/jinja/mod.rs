//! Chat templates: Jinja2 as Transformers sets it up (trim_blocks, lstrip_blocks, loop controls, `generation`, tojson,
//! raise_exception, strftime_now), with the values and operators of Python, under a budget of steps and bytes.
//!
//! What it does differently from Jinja2, knowingly: whatever is refused is refused when a template is loaded (see
//! parser.rs), lazy filters (map, select, …) do their work at once, and integers end at 128 bits.
mod args;
mod ast;
pub mod budget;
mod characters;
mod dict;
mod eval;
mod exec;
mod expression;
mod filters;
mod filters_sequence;
mod filters_text;
mod format;
mod globals;
mod html;
pub mod json;
mod lexer;
mod methods;
mod number;
mod ops;
mod parser;
mod pprint;
mod repr;
mod scope;
mod spec;
mod stream;
mod strings;
mod tests;
mod unicode_names;
mod urlize;
pub mod value;
mod wrap;

use std::rc::Rc;

/// Why a template was not loaded or did not render.
#[derive(Debug)]
pub struct Fault {
    pub message: String,
    pub line: Option<u32>,
    /// The template's own words: raise_exception.
    pub raised: bool,
}

pub type Res<T> = Result<T, Box<Fault>>;

pub fn fault<T>(message: impl Into<String>) -> Res<T> {
    Err(Box::new(Fault {
        message: message.into(),
        line: None,
        raised: false,
    }))
}

fn fault_at<T>(line: u32, message: String) -> Res<T> {
    fault::<T>(message).map_err(|f| f.at(line))
}

impl Fault {
    fn at(mut self: Box<Self>, line: u32) -> Box<Self> {
        self.line.get_or_insert(line);
        self
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self.line {
            Some(line) if !self.raised => write!(out, "line {line}: {}", self.message),
            _ => out.write_str(&self.message),
        }
    }
}

pub struct Template(parser::Parsed);

const MAX_SOURCE: usize = 1 << 20;

impl Template {
    pub fn load(source: &str) -> Result<Template, String> {
        if source.len() > MAX_SOURCE {
            return Err(format!("the template is longer than {MAX_SOURCE} bytes"));
        }
        parser::parse(source).map(Template).map_err(|f| f.to_string())
    }

    /// `context` makes the variables, under the budget too. What is written is at most `max_output` bytes.
    pub fn render(&self, context: impl FnOnce() -> Res<Rc<Dict>>, max_output: usize) -> Result<String, String> {
        let _budget = budget::start(max_output);
        let text = context().and_then(|context| exec::render(&self.0, &context));
        let text = text.and_then(|text| budget::step().map(|()| text));
        text.map_err(|f| f.to_string())
    }
}

pub use dict::Dict;

//! Grammars through the `llguidance` crate: which ids may come next in an answer that must follow one.
use crate::boundary::{bytes, free_handle, guard, text, Buffer};
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::{json, Value};
use std::slice;
use std::sync::Arc;

/// The bytes of every id, as a tree.
pub struct Vocabulary(ParserFactory);

/// A grammar and how far an answer has come in it.
pub struct Guide(Matcher);

/// What a compilation, and a mask, may take before they are given up.
fn limits() -> ParserLimits {
    ParserLimits {
        verbose_errors: false,
        max_lexer_states: 50_000,
        ..ParserLimits::default()
    }
}

/// Space between the tokens of JSON: what printers of JSON write. A model that likes space would not come to an end.
const SPACE: &str = r"\x20|\x0D?\x0A[\x20\x09]{0,40}";

fn vocabulary(words: Vec<Vec<u8>>, ends: &[u32]) -> Result<Vocabulary, String> {
    let first = *ends.first().ok_or("the model names no id that ends an answer")?;
    if ends.iter().any(|&id| id as usize >= words.len()) {
        return Err("an id that ends an answer is outside the vocabulary".into());
    }
    let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, first), &words).with_eos_tokens(ends);
    let mut factory =
        ParserFactory::new_simple(&(Arc::new(ApproximateTokEnv::new(trie)) as _)).map_err(|e| e.to_string())?;
    *factory.limits_mut() = limits();
    factory.quiet();
    Ok(Vocabulary(factory))
}

/// Of one object, and of these keywords: what they take grows with the square of their number, or faster.
const MEMBERS: usize = 1000;
const PATTERNS: usize = 32;
const ONE_OF: usize = 128;
/// Bytes of a regular expression, or of one in a schema.
const REGEX: usize = 16384;

/// What the compiler would take too long for, or get wrong: before it begins.
fn check_sizes(schema: &Value) -> Result<(), String> {
    let at_most = |what: &str, n: usize, most: usize| match n > most {
        true => Err(format!("{what} of {n}, more than {most}")),
        false => Ok(()),
    };
    let mut open = vec![("", schema)];
    while let Some((name, value)) = open.pop() {
        match value {
            Value::Object(members) => {
                at_most(
                    "an object",
                    members.len(),
                    if name == "patternProperties" { PATTERNS } else { MEMBERS },
                )?;
                if name == "patternProperties" {
                    members
                        .keys()
                        .try_for_each(|key| at_most("a pattern", key.len(), REGEX))?;
                }
                open.extend(members.iter().map(|(name, value)| (name.as_str(), value)));
            }
            Value::Array(items) => {
                if name == "oneOf" {
                    at_most("'oneOf'", items.len(), ONE_OF)?;
                }
                open.extend(items.iter().map(|item| ("", item)));
            }
            Value::String(text) if name == "pattern" => at_most("'pattern'", text.len(), REGEX)?,
            // The compiler has them as doubles, and would take another.
            Value::Number(n) if !n.is_f64() && n.as_i64().is_none_or(|i| i.unsigned_abs() > 1 << 53) => {
                return Err(format!("the number {n} is beyond 2^53"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn regular(given: &str) -> Result<TopLevelGrammar, String> {
    if given.len() > REGEX {
        return Err(format!(
            "a regular expression of {} bytes, more than {REGEX}",
            given.len()
        ));
    }
    if given.contains("(?P<stop>") {
        return Err("a group may not be named 'stop'".into());
    }
    if let Err(regex::Error::Syntax(error)) = regex::Regex::new(given) {
        return Err(error);
    }
    Ok(TopLevelGrammar::from_regex(given))
}

fn schema(given: Value) -> Result<TopLevelGrammar, String> {
    check_sizes(&given)?;
    let mut schema = match given {
        Value::Bool(true) => json!({}),
        Value::Bool(false) => return Err("the schema is false: nothing is valid".into()),
        Value::Object(_) => given,
        _ => return Err("a schema must be an object or a boolean".into()),
    };
    if schema.get("x-guidance").is_some() {
        return Err("the keyword 'x-guidance' is not supported".into());
    }
    JsonCompileOptions {
        whitespace_pattern: Some(SPACE.into()),
        json_allow_general_unicode_escapes: true,
        ..JsonCompileOptions::default()
    }
    .apply_to(&mut schema);
    Ok(TopLevelGrammar::from_json_schema(schema))
}

/// A regular expression of this word alone. Control characters are written by their numbers.
fn escaped(word: &str) -> String {
    let one = |c: char| match c {
        ' '..='~' | '\u{80}'.. => regex::escape(c.encode_utf8(&mut [0; 4])),
        _ => format!("\\x{:02X}", c as u32),
    };
    word.chars().map(one).collect()
}

fn choice(given: Value) -> Result<TopLevelGrammar, String> {
    let words: Vec<String> = serde_json::from_value(given).map_err(|_| "must be a list of strings")?;
    if words.is_empty() || words.iter().any(|word| word.is_empty()) {
        return Err("must have at least one string, and no empty one".into());
    }
    // One lexeme: as many as there are words would take the square of their number.
    let words: Vec<String> = words.iter().map(|word| escaped(word)).collect();
    Ok(TopLevelGrammar::from_regex(&words.join("|")))
}

fn grammar(kind: i32, given: &str) -> Result<TopLevelGrammar, String> {
    let value = || serde_json::from_str::<Value>(given).map_err(|e| e.to_string());
    match kind {
        0 => schema(value()?),
        1 => regular(given),
        2 => choice(value()?),
        _ if given.contains("x-guidance") => Err("'x-guidance' is not supported".into()),
        _ => Ok(TopLevelGrammar::from_lark(given.into())),
    }
}

/// Compilers call themselves for each part of a form: on a stack of its own, of which most forms touch little.
const STACK: usize = 256 << 20;

fn guide(vocabulary: &Vocabulary, kind: i32, given: &str) -> Result<Guide, String> {
    std::thread::scope(|scope| {
        let compiler = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, || compile(vocabulary, kind, given));
        let done = compiler.map_err(|e| e.to_string())?.join();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .map_err(told)
    })
}

/// What a client is told of the library's words: no backtrace, and not a whole grammar.
fn told(error: String) -> String {
    let end = ["\n<backtrace>", "\n<non-verbose/>"]
        .iter()
        .filter_map(|mark| error.find(mark))
        .min();
    error[..end.unwrap_or(error.len())].chars().take(1000).collect()
}

fn compile(vocabulary: &Vocabulary, kind: i32, given: &str) -> Result<Guide, String> {
    let mut matcher = Matcher::new(vocabulary.0.create_parser(grammar(kind, given)?));
    match matcher.get_error() {
        Some(error) => Err(error),
        None if matcher.compute_mask_or_eos().map_err(|e| e.to_string())?.is_zero() => {
            Err("nothing can follow it".into())
        }
        None => Ok(Guide(matcher)),
    }
}

fn mask(guide: &mut Guide, words: &mut [u64]) -> Result<(), String> {
    let mask = guide.0.compute_mask_or_eos().map_err(|e| e.to_string())?;
    words.fill(0);
    for (i, &bits) in mask.as_slice().iter().enumerate() {
        match words.get_mut(i / 2) {
            Some(word) => *word |= (bits as u64) << (i % 2 * 32),
            None if bits == 0 => {}
            None => return Err("a mask is longer than the model's vocabulary".into()),
        }
    }
    match words.iter().all(|&word| word == 0) {
        true => Err("no id can follow".into()),
        false => Ok(()),
    }
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_vocabulary_new(
    data: *const u8,
    lengths: *const u32,
    special: *const u8,
    count: usize,
    ends: *const u32,
    end_count: usize,
    out: *mut *mut Vocabulary,
    error: *mut Buffer,
) -> i32 {
    guard(out, error, || {
        if count == 0 || end_count == 0 {
            return Err("the model names no id that ends an answer".into());
        }
        let lengths = slice::from_raw_parts(lengths, count);
        let data = bytes(data, lengths.iter().map(|&n| n as usize).sum());
        let special = slice::from_raw_parts(special, count);
        let mut at = 0;
        let words = lengths.iter().zip(special).map(|(&n, &special)| {
            let word = &data[at..at + n as usize];
            at += n as usize;
            // Of no text: a grammar reaches it by its name alone.
            if special != 0 {
                [&[TokTrie::SPECIAL_TOKEN_MARKER], word].concat()
            } else {
                word.to_vec()
            }
        });
        Ok(Box::into_raw(Box::new(vocabulary(
            words.collect(),
            slice::from_raw_parts(ends, end_count),
        )?)))
    })
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_vocabulary_free(vocabulary: *mut Vocabulary) {
    free_handle(vocabulary);
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_guide_new(
    vocabulary: *const Vocabulary,
    kind: i32,
    given: *const u8,
    size: usize,
    out: *mut *mut Guide,
    error: *mut Buffer,
) -> i32 {
    guard(out, error, || {
        Ok(Box::into_raw(Box::new(guide(&*vocabulary, kind, text(given, size)?)?)))
    })
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_guide_copy(guide: *const Guide, out: *mut *mut Guide, error: *mut Buffer) -> i32 {
    guard(out, error, || {
        Ok(Box::into_raw(Box::new(Guide((*guide).0.deep_clone()))))
    })
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_guide_free(guide: *mut Guide) {
    free_handle(guide);
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_guide_take(guide: *mut Guide, id: u32, error: *mut Buffer) -> i32 {
    guard(&mut (), error, || {
        (*guide).0.consume_token(id).map_err(|e| told(e.to_string()))
    })
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_guide_mask(
    guide: *mut Guide,
    words: *mut u64,
    count: usize,
    error: *mut Buffer,
) -> i32 {
    guard(&mut (), error, || {
        mask(&mut *guide, slice::from_raw_parts_mut(words, count)).map_err(told)
    })
}

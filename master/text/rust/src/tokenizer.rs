//! tokenizer.json through the `tokenizers` crate.
use crate::boundary::{bytes, free_handle, guard, text, Buffer, Ids};
use std::collections::BTreeMap;
use tokenizers::Tokenizer;

pub struct Handle(Tokenizer);

const ADDED: u32 = 1;
const SPECIAL: u32 = 2;
const LSTRIP: u32 = 4;
const RSTRIP: u32 = 8;
const SINGLE_WORD: u32 = 16;

fn load(json: &[u8]) -> Result<Handle, String> {
    let mut tokenizer = Tokenizer::from_bytes(json).map_err(|e| e.to_string())?;
    // A file may carry the truncation and padding of its training run; a server must see the whole text.
    tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
    tokenizer.with_padding(None);
    tokenizer.set_encode_special_tokens(true);
    Ok(Handle(tokenizer))
}

fn pieces(tokenizer: &Tokenizer) -> Vec<u8> {
    let mut flags = BTreeMap::new();
    for id in tokenizer.get_vocab(true).into_values() {
        flags.insert(id, 0u32);
    }
    for (id, token) in tokenizer.get_added_tokens_decoder() {
        let mut f = ADDED;
        for (is, bit) in [
            (token.special, SPECIAL),
            (token.lstrip, LSTRIP),
            (token.rstrip, RSTRIP),
            (token.single_word, SINGLE_WORD),
        ] {
            if is {
                f |= bit;
            }
        }
        flags.insert(id, f);
    }
    let mut out = Vec::new();
    for (id, f) in flags {
        let token = tokenizer.id_to_token(id).unwrap_or_default();
        for word in [id, f, token.len() as u32] {
            out.extend_from_slice(&word.to_ne_bytes());
        }
        out.extend_from_slice(token.as_bytes());
    }
    out
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_tokenizer_load(
    json: *const u8,
    size: usize,
    out: *mut *mut Handle,
    error: *mut Buffer,
) -> i32 {
    guard(out, error, || Ok(Box::into_raw(Box::new(load(bytes(json, size))?))))
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_tokenizer_free(tokenizer: *mut Handle) {
    free_handle(tokenizer);
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_tokenizer_encode(
    tokenizer: *const Handle,
    input: *const u8,
    size: usize,
    add_special: i32,
    ids: *mut Ids,
    error: *mut Buffer,
) -> i32 {
    guard(ids, error, || {
        // encode_fast: without offsets, which nobody reads.
        let encoding = (*tokenizer)
            .0
            .encode_fast(text(input, size)?, add_special != 0)
            .map_err(|e| e.to_string())?;
        Ok(Ids::from(encoding.get_ids()))
    })
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_tokenizer_pieces(
    tokenizer: *const Handle,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(out, error, || Ok(Buffer::from(pieces(&(*tokenizer).0))))
}

//! PanGu-alpha's word segmentation through jieba-rs.
use crate::boundary::{free_handle, guard, text, Buffer};
use jieba_rs::Jieba;

/// models@r1.3 tokenization_jieba.py: segments are joined by spaces, real spaces and newlines stand as U+2582 and
/// U+2583.
fn segment(jieba: &Jieba, input: &str) -> String {
    let mut out = String::with_capacity(input.len() * 2);
    for (index, token) in jieba.cut(input, true).iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        out.extend(token.word.chars().map(|c| match c {
            ' ' => '\u{2582}',
            '\n' => '\u{2583}',
            other => other,
        }));
    }
    out
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_jieba_new(out: *mut *mut Jieba, error: *mut Buffer) -> i32 {
    guard(out, error, || Ok(Box::into_raw(Box::new(Jieba::new()))))
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_jieba_free(jieba: *mut Jieba) {
    free_handle(jieba);
}

/// # Safety
/// See pangea_text.h.
#[no_mangle]
pub unsafe extern "C" fn pangea_jieba_segment(
    jieba: *const Jieba,
    input: *const u8,
    size: usize,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    guard(out, error, || {
        Ok(Buffer::from(segment(&*jieba, text(input, size)?).into_bytes()))
    })
}

//! What every entry point needs: borrowed input, owned output, and panics that become errors.
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::slice;

#[repr(C)]
pub struct Buffer {
    data: *mut u8,
    size: usize,
}

#[repr(C)]
pub struct Ids {
    data: *mut u32,
    size: usize,
}

fn leak<T>(values: Vec<T>) -> (*mut T, usize) {
    if values.is_empty() {
        return (std::ptr::null_mut(), 0);
    }
    let boxed = values.into_boxed_slice();
    let size = boxed.len();
    (Box::into_raw(boxed) as *mut T, size)
}

/// # Safety
/// `data` and `size` are of one `leak`.
unsafe fn unleak<T>(data: *mut T, size: usize) {
    if !data.is_null() {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(data, size)));
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        let (data, size) = leak(bytes);
        Buffer { data, size }
    }
}

impl From<&[u32]> for Ids {
    fn from(ids: &[u32]) -> Self {
        let (data, size) = leak(ids.to_vec());
        Ids { data, size }
    }
}

/// # Safety
/// `data` points to `size` bytes that outlive the use (or `size` is 0).
pub unsafe fn bytes<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if size == 0 {
        &[]
    } else {
        slice::from_raw_parts(data, size)
    }
}

/// # Safety
/// As `bytes`.
pub unsafe fn text<'a>(data: *const u8, size: usize) -> Result<&'a str, String> {
    std::str::from_utf8(bytes(data, size)).map_err(|_| "not valid UTF-8".to_string())
}

/// Runs `body`; on success writes its value to `out` and returns 0, else writes the reason to `error` and returns 1.
///
/// # Safety
/// `out` and `error` are valid for writing.
pub unsafe fn guard<T>(out: *mut T, error: *mut Buffer, body: impl FnOnce() -> Result<T, String>) -> i32 {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => {
            out.write(value);
            return 0;
        }
        Ok(Err(message)) => message,
        Err(panic) => {
            let what = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("unknown cause");
            format!("internal failure: {what}")
        }
    };
    error.write(Buffer::from(failure.into_bytes()));
    1
}

/// # Safety
/// `buffer` came from this library and is freed once.
#[no_mangle]
pub unsafe extern "C" fn pangea_buffer_free(buffer: Buffer) {
    unleak(buffer.data, buffer.size);
}

/// # Safety
/// `ids` came from this library and is freed once.
#[no_mangle]
pub unsafe extern "C" fn pangea_ids_free(ids: Ids) {
    unleak(ids.data, ids.size);
}

/// # Safety
/// `handle` came from a load function of its kind, or is null, and is freed once.
pub unsafe fn free_handle<T>(handle: *mut T) {
    if !handle.is_null() {
        // A panic in a destructor must not cross the C boundary either.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(Box::from_raw(handle))));
    }
}

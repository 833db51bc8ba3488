//! What one rendering may use. Kept for the thread, so that no function needs to hand it on.
use super::{fault, Res};
use std::cell::Cell;

/// Expressions and statements. A conversation of a thousand messages takes about 10^5.
const STEPS: u64 = 5_000_000;
/// Bytes made or looked at, all together. More than any rendering holds at a time.
const BYTES: u64 = 1 << 30;
/// Calls of expressions, statements and macros inside each other.
const DEPTH: usize = 1000;

thread_local! {
    static LEFT: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    static OUTPUT: Cell<usize> = const { Cell::new(0) };
    static DEEP: Cell<usize> = const { Cell::new(0) };
}

/// Holds for as long as it lives; what was before it holds again afterwards.
pub struct Budget((u64, u64), usize, usize);

pub fn start(max_output: usize) -> Budget {
    Budget(
        LEFT.replace((STEPS, BYTES)),
        OUTPUT.replace(max_output),
        DEEP.replace(0),
    )
}

impl Drop for Budget {
    fn drop(&mut self) {
        LEFT.set(self.0);
        OUTPUT.set(self.1);
        DEEP.set(self.2);
    }
}

/// One step of the template.
pub fn step() -> Res<()> {
    steps(1)
}

pub fn steps(count: usize) -> Res<()> {
    let (steps, bytes) = LEFT.get();
    if steps < count as u64 {
        LEFT.set((0, 0));
        return fault(format!(
            "the template takes more than {STEPS} steps (it ran out of fuel)"
        ));
    }
    LEFT.set((steps - count as u64, bytes));
    Ok(())
}

/// Room for a text of so many bytes, or for a look at each of them. Asked before it is made.
pub fn bytes(count: usize) -> Res<()> {
    let (steps, bytes) = LEFT.get();
    if count as u64 > bytes {
        LEFT.set((0, 0)); // nothing goes on, even where this fault is passed over
        return fault("the template takes too much memory");
    }
    LEFT.set((steps, bytes - count as u64));
    Ok(())
}

/// Room for a list of so many values, and for what a list takes beside them.
pub fn items(count: usize) -> Res<()> {
    steps(1 + count / 4)?;
    bytes(count.saturating_add(3).saturating_mul(size_of::<super::value::Value>()))
}

/// Whether a text of so many bytes may be written.
pub fn output(size: usize) -> Res<()> {
    let limit = OUTPUT.get();
    if size > limit {
        return fault(format!("the output is longer than {limit} bytes"));
    }
    Ok(())
}

/// Counts a level of recursion for as long as it lives.
pub struct Level;

pub fn level() -> Res<Level> {
    if DEEP.get() >= DEPTH {
        return fault("the template calls itself too deeply");
    }
    DEEP.set(DEEP.get() + 1);
    Ok(Level)
}

impl Drop for Level {
    fn drop(&mut self) {
        DEEP.set(DEEP.get() - 1);
    }
}

/// Room for a new text. One that could not be written is refused as well.
pub fn text(size: usize) -> Res<()> {
    output(size)?;
    bytes(size)
}

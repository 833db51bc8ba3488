//! The wordwrap filter: Python's textwrap.
use super::args::{count, Bound};
use super::strings::{is_space, lines};
use super::{budget, fault, Res};

pub fn word_wrap(text: &str, args: Bound) -> Res<String> {
    let width = match args.maybe_int(0)?.unwrap_or(79) {
        width @ 1.. => count(width),
        width => return fault(format!("invalid width {width} (must be > 0)")),
    };
    let by = args.maybe_text(2)?.unwrap_or("\n");
    let wrapper = Wrapper {
        width,
        break_long_words: args.truth(1, true),
        break_on_hyphens: args.truth(3, true),
    };
    let (mut out, mut size) = (Vec::new(), 0);
    for line in lines(text, false) {
        budget::items(line.len())?;
        let wrapped = wrapper.wrap(line);
        size = (wrapped.len() + 1)
            .saturating_mul(by.len())
            .saturating_add(line.len() + size);
        budget::output(size)?;
        out.push(wrapped.join(by));
    }
    let out = out.join(by);
    budget::text(out.len())?;
    Ok(out)
}

struct Wrapper {
    width: usize,
    break_long_words: bool,
    break_on_hyphens: bool,
}

fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\x0b' | '\x0c' | '\r' | ' ')
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_letter(c: Option<&char>) -> bool {
    c.is_some_and(|c| is_word(*c) && !c.is_numeric())
}

fn is_word_or_mark(c: Option<&char>) -> bool {
    c.is_some_and(|c| is_word(*c) || matches!(c, '!' | '"' | '\'' | '&' | '.' | ',' | '?'))
}

/// Two dashes or more before a word.
fn dash(text: &[char]) -> Option<usize> {
    let length = text.iter().take_while(|c| **c == '-').count();
    (length >= 2 && text.get(length).is_some_and(|c| is_word(*c))).then_some(length)
}

impl Wrapper {
    /// White space, words, and parts of words that end in a hyphen.
    fn chunks(&self, text: &[char]) -> Vec<Vec<char>> {
        let mut out = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let length = if is_blank(text[at]) {
                text[at..].iter().take_while(|c| is_blank(**c)).count()
            } else if self.break_on_hyphens {
                self.word(text, at)
            } else {
                text[at..].iter().take_while(|c| !is_blank(**c)).count()
            };
            out.push(text[at..at + length].to_vec());
            at += length;
        }
        out
    }

    fn word(&self, text: &[char], at: usize) -> usize {
        let before = |i: usize| i.checked_sub(1);
        if is_word_or_mark(before(at).and_then(|i| text.get(i))) {
            if let Some(length) = dash(&text[at..]) {
                return length;
            }
        }
        for end in at + 1.. {
            let last = |back: usize| end.checked_sub(back).and_then(|i| text.get(i));
            match text.get(end) {
                None => return end - at,
                Some(c) if is_blank(*c) => return end - at,
                Some('-') => {
                    let joined = (is_letter(last(1)) && is_letter(last(2)))
                        || (is_word_or_mark(last(1)) && last(2) == Some(&'-') && is_letter(last(3)));
                    let skip = usize::from(text.get(end + 2) == Some(&'-'));
                    if joined && is_letter(text.get(end + 1)) && is_letter(text.get(end + 2 + skip)) {
                        return end + 1 - at;
                    }
                    if is_word_or_mark(last(1)) && dash(&text[end..]).is_some() {
                        return end - at;
                    }
                }
                _ => {}
            }
        }
        text.len() - at
    }

    fn wrap(&self, line: &str) -> Vec<String> {
        let text: Vec<char> = line.chars().collect();
        let mut chunks = self.chunks(&text);
        chunks.reverse();
        let blank = |chunk: &[char]| chunk.iter().all(|c| is_space(*c));
        let mut out: Vec<String> = Vec::new();
        while !chunks.is_empty() {
            let mut now: Vec<Vec<char>> = Vec::new();
            let mut length = 0;
            if !out.is_empty() && chunks.last().is_some_and(|c| blank(c)) {
                chunks.pop();
            }
            while let Some(chunk) = chunks.last() {
                if length + chunk.len() > self.width {
                    break;
                }
                length += chunk.len();
                now.extend(chunks.pop());
            }
            if chunks.last().is_some_and(|c| c.len() > self.width) {
                self.long_word(&mut chunks, &mut now, self.width - length);
            }
            if now.last().is_some_and(|c| blank(c)) {
                now.pop();
            }
            if !now.is_empty() {
                out.push(now.concat().into_iter().collect());
            }
        }
        out
    }

    fn long_word(&self, chunks: &mut Vec<Vec<char>>, now: &mut Vec<Vec<char>>, space: usize) {
        if !self.break_long_words {
            if now.is_empty() {
                now.extend(chunks.pop());
            }
            return;
        }
        let Some(chunk) = chunks.last_mut() else { return };
        let mut end = space;
        if self.break_on_hyphens && chunk.len() > space {
            let hyphen = chunk[..space].iter().rposition(|c| *c == '-').unwrap_or(0);
            if hyphen > 0 && chunk[..hyphen].iter().any(|c| *c != '-') {
                end = hyphen + 1;
            }
        }
        let rest = chunk.split_off(end);
        now.push(std::mem::replace(chunk, rest));
    }
}

//! \N{NAME} -> a character. The names lie in unicode_names.txt, which unicode_names.py writes.

/// Nothing for a name that is not in the file.
pub fn find(name: &str) -> Option<char> {
    let wanted = name.to_ascii_uppercase();
    let numbered = |prefix: &str| u32::from_str_radix(wanted.strip_prefix(prefix)?, 16).ok();
    if let Some(code) = numbered("CJK UNIFIED IDEOGRAPH-") {
        return char::from_u32(code);
    }
    let mut before = String::new();
    let mut code = u32::MAX;
    for line in include_str!("unicode_names.txt").lines() {
        let (number, rest) = line.split_once(' ')?;
        code = if number.is_empty() {
            code.wrapping_add(1)
        } else {
            u32::from_str_radix(number, 16).ok()?
        };
        before.truncate(rest[..2].parse().ok()?);
        before.push_str(&rest[2..]);
        if before == wanted {
            return char::from_u32(code);
        }
    }
    None
}

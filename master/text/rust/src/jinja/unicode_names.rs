//! \N{NAME} -> a character. The names lie in unicode_names.txt, which unicode_names.py writes.
use std::collections::HashMap;
use std::sync::LazyLock;

static NAMES: LazyLock<HashMap<String, char>> = LazyLock::new(|| {
    let mut names = HashMap::new();
    let mut name = String::new();
    let mut code = u32::MAX;
    for line in include_str!("unicode_names.txt").lines() {
        let Some((number, rest)) = line.split_once(' ') else {
            break;
        };
        code = match u32::from_str_radix(number, 16) {
            Ok(code) => code,
            Err(_) => code.wrapping_add(1), // the next
        };
        name.truncate(rest[..2].parse().unwrap_or(0)); // what it has in common with the name before
        name.push_str(&rest[2..]);
        names.extend(char::from_u32(code).map(|c| (name.clone(), c)));
    }
    names
});

/// Nothing for a name that is not in the file.
pub fn find(name: &str) -> Option<char> {
    let wanted = name.to_ascii_uppercase();
    if let Some(number) = wanted.strip_prefix("CJK UNIFIED IDEOGRAPH-") {
        return u32::from_str_radix(number, 16).ok().and_then(char::from_u32);
    }
    NAMES.get(&wanted).copied()
}

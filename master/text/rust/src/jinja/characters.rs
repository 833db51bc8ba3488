//! What Python knows about a character.
use regex::Regex;
use std::sync::LazyLock;

/// str.isspace of a character: Unicode's white space, and four separators of ASCII.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// str.isprintable of a character.
pub fn is_printable(c: char) -> bool {
    // Behind another character a combining mark needs no escape.
    c == ' ' || c == '\'' || c == '"' || c == '\\' || ['a', c].iter().collect::<String>().escape_debug().count() == 2
}

pub fn is_cased(c: char) -> bool {
    c.is_lowercase()
        || c.is_uppercase()
        || title_of_digraph(c) == Some(c)
        || ('\u{1f80}'..='\u{1fff}').contains(&c) && title(c) == c.to_string() && c.to_lowercase().next() != Some(c)
}

/// Letters with three cases: the middle one.
fn title_of_digraph(c: char) -> Option<char> {
    Some(match c {
        '\u{1c4}'..='\u{1c6}' => '\u{1c5}',
        '\u{1c7}'..='\u{1c9}' => '\u{1c8}',
        '\u{1ca}'..='\u{1cc}' => '\u{1cb}',
        '\u{1f1}'..='\u{1f3}' => '\u{1f2}',
        _ => return None,
    })
}

/// A letter as a word begins with it.
pub fn title(c: char) -> String {
    if let Some(title) = title_of_digraph(c) {
        return title.to_string();
    }
    if c == 'ŉ' {
        return "ʼN".to_string();
    }
    let greek = match c {
        '\u{1f80}'..='\u{1faf}' => Some(c as u32 | 8),
        '\u{1fb3}' | '\u{1fbc}' => Some(0x1fbc),
        '\u{1fc3}' | '\u{1fcc}' => Some(0x1fcc),
        '\u{1ff3}' | '\u{1ffc}' => Some(0x1ffc),
        // Georgian has capitals, but words do not begin with them.
        '\u{10d0}'..='\u{10ff}' => Some(c as u32),
        _ => None,
    };
    if let Some(c) = greek.and_then(char::from_u32) {
        return c.to_string();
    }
    let mut upper = c.to_uppercase();
    let first: String = upper.next().into_iter().collect();
    first + &upper.flat_map(char::to_lowercase).collect::<String>()
}

pub fn swap_case(c: char) -> String {
    if c.is_uppercase() {
        c.to_lowercase().collect()
    } else if c.is_lowercase() {
        c.to_uppercase().collect()
    } else {
        c.to_string()
    }
}

pub fn case_fold(text: &str) -> String {
    let fold = |c: char| -> String {
        match c {
            'ı' | '\u{13a0}'..='\u{13f5}' => c.into(),
            '\u{ab70}'..='\u{abbf}' => char::from_u32(c as u32 - 0xab70 + 0x13a0).unwrap_or(c).into(),
            '\u{13f8}'..='\u{13fd}' => char::from_u32(c as u32 - 8).unwrap_or(c).into(),
            _ => c
                .to_lowercase()
                .flat_map(char::to_uppercase)
                .flat_map(char::to_lowercase)
                .collect(),
        }
    };
    text.chars().map(fold).collect()
}

/// The value of a decimal digit of any script.
pub fn digit_value(c: char) -> Option<u32> {
    // Digits come in runs from zero to nine; these are the zeros.
    static ZEROS: LazyLock<Vec<u32>> = LazyLock::new(|| {
        let decimal = Regex::new(r"^\p{Nd}$").expect("a literal");
        let mut digits = ('\u{80}'..'\u{20000}').filter(|c| decimal.is_match(c.encode_utf8(&mut [0; 4])));
        let mut zeros = Vec::new();
        while let Some(zero) = digits.next() {
            zeros.push(zero as u32);
            digits.nth(8);
        }
        zeros
    });
    if c.is_ascii_digit() || c.is_ascii() {
        return c.to_digit(10);
    }
    let run = ZEROS.partition_point(|zero| *zero <= c as u32).checked_sub(1)?;
    Some(c as u32 - ZEROS[run]).filter(|digit| *digit < 10)
}

macro_rules! all_of {
    ($name:ident, $pattern:expr) => {
        pub fn $name(text: &str) -> bool {
            static PATTERN: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).expect("a literal"));
            PATTERN.is_match(text)
        }
    };
}

all_of!(is_alpha, r"^\p{L}+$");
all_of!(is_decimal, r"^\p{Nd}+$");
all_of!(is_digit, &format!(r"^[\p{{Nd}}{DIGITS}]+$"));
all_of!(is_numeric, &format!(r"^[\p{{N}}{NUMERALS}]+$"));
all_of!(is_alnum, &format!(r"^[\p{{L}}\p{{N}}{NUMERALS}]+$"));
all_of!(is_identifier, r"^[\p{XID_Start}_]\p{XID_Continue}*$");

// Unicode's Numeric_Type: digits that are not decimal, and letters that are numbers.
const DIGITS: &str = concat!(
    r"\u{b2}-\u{b3}\u{b9}\u{1369}-\u{1371}\u{19da}\u{2070}\u{2074}-\u{2079}\u{2080}-\u{2089}\u{2460}-\u{2468}",
    r"\u{2474}-\u{247c}\u{2488}-\u{2490}\u{24ea}\u{24f5}-\u{24fd}\u{24ff}\u{2776}-\u{277e}\u{2780}-\u{2788}",
    r"\u{278a}-\u{2792}\u{10a40}-\u{10a43}\u{10e60}-\u{10e68}\u{11052}-\u{1105a}\u{1f100}-\u{1f10a}",
);
const NUMERALS: &str = concat!(
    r"\u{3405}\u{3483}\u{382a}\u{3b4d}\u{4e00}\u{4e03}\u{4e07}\u{4e09}\u{4e5d}\u{4e8c}\u{4e94}\u{4e96}",
    r"\u{4ebf}-\u{4ec0}\u{4edf}\u{4ee8}\u{4f0d}\u{4f70}\u{5104}\u{5146}\u{5169}\u{516b}\u{516d}\u{5341}",
    r"\u{5343}-\u{5345}\u{534c}\u{53c1}-\u{53c4}\u{56db}\u{58f1}\u{58f9}\u{5e7a}\u{5efe}-\u{5eff}",
    r"\u{5f0c}-\u{5f0e}\u{5f10}\u{62fe}\u{634c}\u{67d2}\u{6f06}\u{7396}\u{767e}\u{8086}\u{842c}\u{8cae}",
    r"\u{8cb3}\u{8d30}\u{9621}\u{9646}\u{964c}\u{9678}\u{96f6}\u{f96b}\u{f973}\u{f978}\u{f9b2}\u{f9d1}",
    r"\u{f9d3}\u{f9fd}\u{20001}\u{20064}\u{200e2}\u{20121}\u{2092a}\u{20983}\u{2098c}\u{2099c}\u{20aea}",
    r"\u{20afd}\u{20b19}\u{22390}\u{22998}\u{23b1b}\u{2626d}\u{2f890}",
);

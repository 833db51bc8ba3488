//! A format specification: of str.format, and of the % operator.
use super::number::{float_format, float_repr};
use super::value::Value;
use super::{budget, fault, Res};

/// Precisions beyond this are refused.
pub const MAX_PRECISION: usize = 1000;

#[derive(Default)]
pub struct Spec {
    pub fill: Option<char>,
    pub align: Option<char>,
    pub sign: Option<char>,
    pub alternate: bool,
    pub width: usize,
    pub grouping: Option<char>,
    pub precision: Option<usize>,
    pub kind: Option<char>,
}

impl Spec {
    pub fn is_plain(&self) -> bool {
        self.width == 0
            && self.precision.is_none()
            && self.fill.is_none()
            && self.align.is_none()
            && self.sign.is_none()
    }

    /// Puts sign and prefix before the digits, and the whole into its width.
    pub fn finish(&self, negative: bool, prefix: &str, digits: &str, align: char) -> Res<String> {
        let sign = match (negative, self.sign) {
            (true, _) => "-",
            (false, Some('+')) => "+",
            (false, Some(' ')) => " ",
            _ => "",
        };
        let size = sign.len() + prefix.len() + digits.chars().count();
        let missing = self.width.saturating_sub(size);
        let fill = self.fill.unwrap_or(' ');
        budget::text(missing.saturating_mul(fill.len_utf8()).saturating_add(digits.len() + 8))?;
        let pad = |count: usize| String::from(fill).repeat(count);
        Ok(match self.align.unwrap_or(align) {
            '<' => format!("{sign}{prefix}{digits}{}", pad(missing)),
            '^' => format!(
                "{}{sign}{prefix}{digits}{}",
                pad(missing / 2),
                pad(missing - missing / 2)
            ),
            '=' if fill == '0' && self.grouping.is_some() => {
                let least = self.width.saturating_sub(sign.len() + prefix.len());
                format!("{sign}{prefix}{}", self.group(digits, least))
            }
            '=' => format!("{sign}{prefix}{}{digits}", pad(missing)),
            _ => format!("{}{sign}{prefix}{digits}", pad(missing)),
        })
    }

    /// Separators between groups of digits before the point; zeros in front up to `least` characters.
    pub fn group(&self, digits: &str, least: usize) -> String {
        let Some(separator) = self.grouping else {
            return digits.to_string();
        };
        let plain: String = digits.chars().filter(|c| *c != separator).collect();
        let end = plain.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(plain.len());
        let end = if self.kind_is_float() {
            plain.find(|c: char| !c.is_ascii_digit()).unwrap_or(plain.len())
        } else {
            end
        };
        let (whole, rest) = plain.split_at(end);
        let every = if matches!(self.kind, Some('x' | 'X' | 'o' | 'b')) {
            4
        } else {
            3
        };
        // So many digits fill what is wanted, or go one beyond it: no number begins with a separator.
        let wanted = least.saturating_sub(rest.len());
        let size = wanted - wanted.saturating_sub(1) / (every + 1);
        let zeros = size.saturating_sub(whole.len());
        let size = whole.len() + zeros;
        let mut out = String::new();
        for (i, c) in std::iter::repeat_n('0', zeros).chain(whole.chars()).enumerate() {
            if i > 0 && (size - i) % every == 0 {
                out.push(separator);
            }
            out.push(c);
        }
        out + rest
    }

    pub fn kind_is_float(&self) -> bool {
        matches!(self.kind, None | Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'n' | '%'))
    }

    pub fn integer(&self, number: i128) -> Res<String> {
        let size = number.unsigned_abs();
        let (prefix, digits) = match self.kind {
            Some('x') => ("0x", format!("{size:x}")),
            Some('X') => ("0X", format!("{size:X}")),
            Some('o') => ("0o", format!("{size:o}")),
            Some('b') => ("0b", format!("{size:b}")),
            _ => ("", size.to_string()),
        };
        let zeros = self.precision.unwrap_or(0).saturating_sub(digits.len());
        let digits = self.group(&format!("{}{digits}", "0".repeat(zeros)), 0);
        self.finish(number < 0, if self.alternate { prefix } else { "" }, &digits, '>')
    }

    pub fn float(&self, number: f64) -> Res<String> {
        let kind = self.kind.unwrap_or('g');
        let size = number.abs();
        let precision = self.precision.unwrap_or(6);
        let mut digits = match (kind.to_ascii_lowercase(), self.kind, self.precision) {
            // No kind: as str(), but for a precision given.
            ('g', None, None) => float_repr(size),
            ('g', None, Some(_)) => {
                let text = float_format(size, 'g', precision, self.alternate);
                match text.contains(['.', 'e', 'n']) || text.len() > precision {
                    true => text,
                    false => text + ".0",
                }
            }
            ('%', _, _) => float_format(size * 100.0, 'f', precision, self.alternate) + "%",
            ('n', _, _) => float_format(size, 'g', precision, self.alternate),
            (lower, _, _) => float_format(size, lower, precision, self.alternate),
        };
        if kind.is_ascii_uppercase() {
            digits = digits.to_ascii_uppercase();
        }
        let digits = if number.is_finite() {
            self.group(&digits, 0)
        } else {
            digits
        };
        self.finish(number.is_sign_negative() && !number.is_nan(), "", &digits, '>')
    }

    pub fn text(&self, text: &str) -> Res<String> {
        let text = match self.precision {
            Some(count) => text.chars().take(count).collect(),
            None => text.to_string(),
        };
        let plain = Spec {
            sign: None,
            grouping: None,
            fill: self.fill,
            align: self.align,
            width: self.width,
            ..Default::default()
        };
        plain.finish(false, "", &text, '<')
    }

    /// Of str.format: what stands behind the colon, for a value.
    pub fn read(text: &str, value: &Value) -> Res<Spec> {
        let mut spec = Spec::default();
        let characters: Vec<char> = text.chars().collect();
        let mut at = 0;
        let is_align = |c: Option<&char>| matches!(c, Some('<' | '>' | '^' | '='));
        if is_align(characters.get(1)) {
            (spec.fill, spec.align, at) = (Some(characters[0]), Some(characters[1]), 2);
        } else if is_align(characters.first()) {
            (spec.align, at) = (Some(characters[0]), 1);
        }
        let take = |allowed: &[char], at: &mut usize| {
            let found = characters.get(*at).copied().filter(|c| allowed.contains(c));
            *at += usize::from(found.is_some());
            found
        };
        spec.sign = take(&['+', '-', ' '], &mut at);
        if matches!(value, Value::Float(_)) {
            take(&['z'], &mut at); // -0.0 without its sign, which nothing here prints
        }
        spec.alternate = take(&['#'], &mut at).is_some();
        if take(&['0'], &mut at).is_some() && spec.fill.is_none() {
            spec.fill = Some('0');
            spec.align = spec.align.or((value.as_str().is_none()).then_some('='));
        }
        let number = |at: &mut usize| -> Res<Option<usize>> {
            let digits: String = characters[*at..].iter().take_while(|c| c.is_ascii_digit()).collect();
            *at += digits.len();
            match digits.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) if digits.is_empty() => Ok(None),
                Err(_) => fault("Too many decimal digits in format string"),
            }
        };
        spec.width = number(&mut at)?.unwrap_or(0);
        spec.grouping = characters.get(at).copied().filter(|c| matches!(c, ',' | '_'));
        at += usize::from(spec.grouping.is_some());
        if characters.get(at) == Some(&'.') {
            at += 1;
            spec.precision = number(&mut at)?;
            let too_big = value.as_str().is_none() && spec.precision.is_some_and(|p| p > MAX_PRECISION);
            if spec.precision.is_none() || too_big {
                return fault("Format specifier missing precision, or one too big");
            }
        }
        spec.kind = characters.get(at).copied();
        if characters.len() > at + 1 {
            return fault(format!("Invalid format specifier '{text}'"));
        }
        Ok(spec)
    }
}

//! Numbers from and to text, as Python does it.

/// Python's repr of a float: the shortest digits that read back, exponent form outside [1e-4, 1e16).
pub fn float_repr(number: f64) -> String {
    if !number.is_finite() {
        return special(number).to_string();
    }
    let size = number.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        return exponent(&format!("{number:e}"));
    }
    format!("{number:?}")
}

fn special(number: f64) -> &'static str {
    match number {
        n if n.is_nan() => "nan",
        n if n > 0.0 => "inf",
        _ => "-inf",
    }
}

/// Rust's 1e5 as Python's 1e+05.
fn exponent(text: &str) -> String {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// C's %e, %f and %g of a number that is not negative. `alternate`: keep the point and zeros.
pub fn float_format(number: f64, kind: char, precision: usize, alternate: bool) -> String {
    if !number.is_finite() {
        return special(number).to_string();
    }
    let point = |text: String| match alternate && !text.contains('.') {
        true => text + ".",
        false => text,
    };
    match kind {
        'f' => point(format!("{number:.precision$}")),
        'e' => exponent(&format!("{number:.precision$e}")),
        _ => {
            let digits = precision.max(1);
            let scientific = format!("{number:.*e}", digits - 1);
            let power: i32 = scientific
                .split_once('e')
                .and_then(|(_, e)| e.parse().ok())
                .unwrap_or(0);
            let trim = |text: &str| match text.contains('.') && !alternate {
                true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
                false => text.to_string(),
            };
            if power < -4 || power >= digits as i32 {
                let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
                return exponent(&format!("{}e{power}", trim(mantissa)));
            }
            trim(&format!("{number:.*}", (digits as i32 - 1 - power) as usize))
        }
    }
}

/// int(text, base). Base 0 reads a prefix.
pub fn parse_int(text: &str, base: u32) -> Option<i128> {
    let text = text.trim_matches(super::strings::is_space);
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let prefix = digits.get(..2).map(str::to_ascii_lowercase).unwrap_or_default();
    let (base, digits) = match prefix.as_str() {
        "0x" if base == 16 || base == 0 => (16, &digits[2..]),
        "0o" if base == 8 || base == 0 => (8, &digits[2..]),
        "0b" if base == 2 || base == 0 => (2, &digits[2..]),
        _ if base == 0 => (10, digits),
        _ => (base, digits),
    };
    let first = digits
        .strip_prefix('_')
        .filter(|_| !matches!(prefix.as_str(), "0x" | "0o" | "0b"));
    if first.is_some() || digits.is_empty() || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    let plain: String = digits
        .chars()
        .filter(|c| *c != '_')
        .map(|c| decimal(c).unwrap_or(c))
        .collect();
    if plain.starts_with(['-', '+']) {
        return None;
    }
    let signed = if negative { format!("-{plain}") } else { plain };
    i128::from_str_radix(&signed, base).ok()
}

/// The ASCII digit of a decimal digit in any script.
fn decimal(c: char) -> Option<char> {
    super::strings::digit_value(c).and_then(|d| char::from_digit(d, 10))
}

/// float(text).
pub fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(super::strings::is_space);
    let bytes = text.as_bytes();
    let grouped = |i: usize| {
        let digit = |at: Option<usize>| at.and_then(|a| bytes.get(a)).is_some_and(u8::is_ascii_digit);
        digit(i.checked_sub(1)) && digit(Some(i + 1))
    };
    if bytes.iter().enumerate().any(|(i, b)| *b == b'_' && !grouped(i)) {
        return None;
    }
    let plain: String = text
        .chars()
        .filter(|c| *c != '_')
        .map(|c| decimal(c).unwrap_or(c))
        .collect();
    match plain.trim_start_matches(['+', '-']).to_ascii_lowercase().as_str() {
        "inf" | "infinity" | "nan" => {}
        number if number.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {}
        _ => return None,
    }
    plain.parse().ok()
}

/// round(number, digits) of a float.
pub fn round(number: f64, digits: i128) -> f64 {
    if !number.is_finite() || digits > 330 {
        return number;
    }
    if digits >= 0 {
        return format!("{number:.*}", digits as usize).parse().unwrap_or(number);
    }
    if digits < -308 {
        return 0.0 * number;
    }
    // The exact decimal digits before the point, cut at the place that is rounded to, half to even.
    let unit = 10f64.powi(-digits as i32);
    let scaled = number / unit;
    let floor = scaled.floor();
    let rounded = match (scaled - floor).partial_cmp(&0.5) {
        Some(std::cmp::Ordering::Less) => floor,
        Some(std::cmp::Ordering::Greater) => floor + 1.0,
        _ if floor % 2.0 == 0.0 => floor,
        _ => floor + 1.0,
    };
    rounded * unit
}

/// round(number, digits) of an integer, for digits below 0.
pub fn round_int(number: i128, digits: i128) -> i128 {
    let Some(unit) = (digits > -38).then(|| 10i128.pow(-digits as u32)) else {
        return 0;
    };
    let (quotient, rest) = (number.div_euclid(unit), number.rem_euclid(unit));
    let up = rest * 2 > unit || (rest * 2 == unit && quotient % 2 != 0);
    (quotient + i128::from(up)).saturating_mul(unit)
}

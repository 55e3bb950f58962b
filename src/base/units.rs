//! Durations and sizes as people write them: `250ms`, `10s`, `24h`, `64MiB`.

use std::fmt;

/// Why a duration or size could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnitError {
    text: String,
    expected: &'static str,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is not {}", self.text, self.expected)
    }
}

impl std::error::Error for UnitError {}

const DURATION: &str = "a duration such as 250us, 250ms, 10s, 5m, 24h or 7d";
const SIZE: &str = "a size such as 512, 64KiB, 64MiB or 2GiB";

/// Reads a duration into nanoseconds. A unit is required, except for `0`.
///
/// # Errors
/// [`UnitError`] for anything that is no duration or does not fit 64 bits.
pub fn parse_duration_ns(text: &str) -> Result<u64, UnitError> {
    let error = || UnitError { text: text.to_owned(), expected: DURATION };
    let (number, unit) = split(text).ok_or_else(error)?;
    let scale: u64 = match unit {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3_600 * 1_000_000_000,
        "d" => 86_400 * 1_000_000_000,
        "" if number == "0" => 1,
        _ => return Err(error()),
    };
    scaled(number, scale).ok_or_else(error)
}

/// Reads a size into bytes. A bare number counts bytes.
///
/// # Errors
/// [`UnitError`] for anything that is no size or does not fit 64 bits.
pub fn parse_size_bytes(text: &str) -> Result<u64, UnitError> {
    let error = || UnitError { text: text.to_owned(), expected: SIZE };
    let (number, unit) = split(text).ok_or_else(error)?;
    let scale: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(error()),
    };
    scaled(number, scale).ok_or_else(error)
}

fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '_' || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (!number.is_empty()).then(|| (number, unit.trim()))
}

/// `number * scale`, exact for whole numbers; a decimal point is allowed where the product is whole enough.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let digits: String = number.chars().filter(|c| *c != '_').collect();
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    if fraction.is_empty() {
        return (!digits.ends_with('.')).then_some(whole);
    }
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part =
        u128::from(fraction.parse::<u64>().ok()?) * u128::from(scale) / 10u128.pow(fraction.len() as u32);
    whole.checked_add(u64::try_from(part).ok()?)
}

/// A duration for people: the largest unit that keeps it readable.
#[must_use]
pub fn show_ns(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{:.1}us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2}ms", ns as f64 / 1e6),
        _ => format!("{:.2}s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_duration_ns, parse_size_bytes, show_ns};

    #[test]
    fn reads_what_people_write() {
        assert_eq!(parse_duration_ns("250ms"), Ok(250_000_000));
        assert_eq!(parse_duration_ns("1.5s"), Ok(1_500_000_000));
        assert_eq!(parse_duration_ns("24h"), Ok(86_400_000_000_000));
        assert_eq!(parse_duration_ns("0"), Ok(0));
        assert_eq!(parse_size_bytes("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size_bytes("1_000"), Ok(1000));
        assert_eq!(parse_size_bytes("1.5 GiB"), Ok(3 << 29));
    }

    #[test]
    fn refuses_the_rest() {
        for bad in ["", "ms", "5", "-1s", "1x", "99999999999999999999s", "1.2.3s", "18446744073709551615s"] {
            assert!(parse_duration_ns(bad).is_err(), "{bad}");
        }
        for bad in ["", "MiB", "5 mib", "-1", "99999999999TiB"] {
            assert!(parse_size_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shows_a_readable_unit() {
        assert_eq!(show_ns(12), "12ns");
        assert_eq!(show_ns(1_500), "1.5us");
        assert_eq!(show_ns(2_340_000), "2.34ms");
        assert_eq!(show_ns(1_250_000_000), "1.25s");
    }
}

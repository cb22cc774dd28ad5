//! Texts to typed values: durations, lists, switches.

use std::time::Duration;

/// Reads `250ms`, `60s`, `15m`, `24h`, `30d` or `0`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration: write 60s, 15m, 24h or 30d");
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

/// Writes a duration in the largest unit that fits without a fraction.
pub(super) fn show_duration(span: Duration) -> String {
    let millis = span.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if millis > 0 && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    if millis == 0 { "0".to_owned() } else { format!("{millis}ms") }
}

/// Parts of a comma list, trimmed, empty ones dropped.
pub(super) fn split_list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_show() {
        for text in ["60s", "90d", "1500ms", "0"] {
            let shown = show_duration(parse_duration(text).unwrap());
            assert_eq!(parse_duration(&shown), parse_duration(text));
        }
        assert_eq!(show_duration(Duration::from_mins(1)), "1m");
        for wrong in ["60", "1.5h", "-1s", "s", "", "99999999999999999999d", "1 h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}

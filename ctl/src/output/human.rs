//! Sizes, ages and times as people read them.

use std::time::Duration;

use jiff::Timestamp;
use seawall_proto::v1;

/// 1536 → `1.5 KiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 and more would be printed as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Never more than 100; of nothing all is done.
pub fn percent(done: u64, total: u64) -> u64 {
    let percent = u128::from(done) * 100 / u128::from(total.max(1));
    u64::try_from(percent).unwrap_or(100).min(100)
}

/// `, 3.4 MiB/s, 2m30s left`, as far as it is known.
pub fn pace(progress: &v1::Progress) -> String {
    let mut text = String::new();
    if progress.bytes_per_second > 0 {
        text.push_str(&format!(", {}/s", size(progress.bytes_per_second)));
    }
    if let Some(left) = progress.left_ms {
        text.push_str(&format!(", {} left", span_ms(left)));
    }
    text
}

/// The two largest units: `450ms`, `8s`, `2m05s`, `3h10m`, `4d02h`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..=59 => format!("{seconds}s"),
        60..=3599 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

pub fn span_ms(ms: u64) -> String {
    span(Duration::from_millis(ms))
}

/// How long ago something was, by this machine's clock; `-` for never. Clocks differ: what seems to
/// lie ahead has just been.
pub fn age(unix_ms: Option<u64>, now_unix_ms: u64) -> String {
    match unix_ms {
        None | Some(0) => "-".to_owned(),
        Some(then) => match now_unix_ms.saturating_sub(then) {
            0..=999 => "now".to_owned(),
            ms => span_ms(ms),
        },
    }
}

/// RFC 3339 in UTC with milliseconds; `None` for never.
pub fn time(unix_ms: u64) -> Option<String> {
    let ms = i64::try_from(unix_ms).ok().filter(|ms| *ms > 0)?;
    let at = Timestamp::from_millisecond(ms).ok()?;
    Some(format!("{at:.3}"))
}

/// The same without fractions of a second, for tables; `-` for never.
pub fn time_short(unix_ms: u64) -> String {
    i64::try_from(unix_ms)
        .ok()
        .filter(|ms| *ms > 0)
        .and_then(|ms| Timestamp::from_second(ms / 1000).ok())
        .map_or_else(dash, |at| at.to_string())
}

pub fn dash() -> String {
    "-".to_owned()
}

/// The text, or `-` when there is none.
pub fn or_dash(text: &str) -> String {
    if text.is_empty() {
        dash()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn spans_show_two_units() {
        for (ms, text) in [
            (0, "0ms"),
            (450, "450ms"),
            (8_400, "8s"),
            (125_000, "2m05s"),
            (3_600_000, "1h00m"),
            (90_000_000, "1d01h"),
        ] {
            assert_eq!(span_ms(ms), text);
        }
    }

    #[test]
    fn an_age_never_lies_ahead() {
        assert_eq!(age(None, 5_000), "-");
        assert_eq!(age(Some(0), 5_000), "-");
        assert_eq!(age(Some(9_000), 5_000), "now");
        assert_eq!(age(Some(2_000), 5_000), "3s");
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time(0), None);
        assert_eq!(
            time(1_792_000_000_120).as_deref(),
            Some("2026-10-14T17:46:40.120Z")
        );
        assert_eq!(time_short(1_792_000_000_999), "2026-10-14T17:46:40Z");
    }
}

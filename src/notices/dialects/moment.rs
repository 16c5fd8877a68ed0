//! Moments, as they are written and as they are shown.

use mail_parser::DateTime;

/// A moment of RFC 3339, in milliseconds since 1970.
pub(in crate::notices) fn parse(words: &str) -> Option<i64> {
    let moment = DateTime::parse_rfc3339(words.trim()).filter(DateTime::is_valid)?;
    moment.to_timestamp().checked_mul(1000)
}

/// A moment in milliseconds since 1970 as it is shown. `None`: no date of four digits names it.
pub(in crate::notices) fn shown(moment: i64) -> Option<String> {
    let seconds = Some(moment.div_euclid(1000)).filter(|seconds| (0..253_402_300_800).contains(seconds))?;
    let date = DateTime::from_timestamp(seconds);
    Some(format!("{:04}-{:02}-{:02} {:02}:{:02} UTC", date.year, date.month, date.day, date.hour, date.minute))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_as_people_read_them() {
        let both = |words: &str| parse(words).and_then(shown);
        assert_eq!(both("2021-10-12T09:51:03.157076+02:00").as_deref(), Some("2021-10-12 07:51 UTC"));
        assert_eq!(both("2026-11-30T00:08:59Z").as_deref(), Some("2026-11-30 00:08 UTC"));
        for none in ["", "tomorrow", "0001-01-01T00:00:00Z", "2026-13-40T99:99:99Z"] {
            assert_eq!(both(none), None, "{none}");
        }
        assert_eq!((shown(i64::MAX), shown(-1)), (None, None));
    }
}

//! Quiet hours, by the clock of a place. Pure.
//!
//! They begin and end at the moments at which that clock shows so, whatever it jumped over in between. Where it shows
//! something twice, the first time counts; where it never shows it, the moment counts at which it would have.

use std::{borrow::Cow, fmt, str::FromStr};

use jiff::{civil::Time, tz::TimeZone};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use sealbridge_contract::Timestamp;
use serde::{Deserialize, Serialize};

use super::Severity;

/// From when until when it is quiet each day: `22:00-07:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hours {
    from: Time,
    until: Time,
}

/// Hours by the clock of a place, and how much matters enough to be said in them all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// From when until when.
    pub hours: Hours,
    /// By whose clock.
    pub zone: Zone,
    /// What matters less is held.
    pub below: Severity,
}

/// A zone of time by its name: `Europe/Zurich`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl Hours {
    /// When it will be quiet no longer, if it is now.
    #[must_use]
    pub fn end(&self, zone: &Zone, now: Timestamp) -> Option<Timestamp> {
        let Zone(zone) = zone;
        let today = zone.to_datetime(jiff::Timestamp::from_millisecond(now.0).ok()?).date();
        // Those that began yesterday may go on.
        [today.yesterday().ok()?, today].into_iter().find_map(|first| {
            let last = if self.until > self.from { first } else { first.tomorrow().ok()? };
            let begins = zone.to_timestamp(first.to_datetime(self.from)).ok()?.as_millisecond();
            let ends = zone.to_timestamp(last.to_datetime(self.until)).ok()?.as_millisecond();
            (begins..ends).contains(&now.0).then_some(Timestamp(ends))
        })
    }
}

impl Window {
    /// Until when it holds what matters so much, if it does.
    #[must_use]
    pub fn holds(&self, severity: Severity, now: Timestamp) -> Option<Timestamp> {
        self.hours.end(&self.zone, now).filter(|_| severity < self.below)
    }
}

/// Until when any of these hold what matters so much, if one does.
#[must_use]
pub fn held_by(windows: &[Window], severity: Severity, now: Timestamp) -> Option<Timestamp> {
    windows.iter().filter_map(|window| window.holds(severity, now)).max()
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = serde_json::json!(self.below);
        write!(f, "{} {}, but for what is {} or worse", self.hours, self.zone, below.as_str().unwrap_or_default())
    }
}

impl FromStr for Hours {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "quiet hours are written \"22:00-07:00\"".to_owned();
        let (from, until) = text.split_once('-').ok_or_else(wrong)?;
        let time = |text: &str| text.trim().parse::<Time>().map_err(|_| wrong());
        let (from, until) = (time(from)?, time(until)?);
        if from == until {
            return Err("quiet hours end at another time than they begin".to_owned());
        }
        Ok(Self { from, until })
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |time: Time| time.strftime(if time.second() == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string();
        write!(f, "{}-{}", shown(self.from), shown(self.until))
    }
}

impl FromStr for Zone {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        let known = TimeZone::get(name).map(Self);
        known.map_err(|_| format!("there is no zone `{name}`: one is written \"Europe/Zurich\""))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl TryFrom<String> for Hours {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> Self {
        hours.to_string()
    }
}

impl TryFrom<String> for Zone {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.to_string()
    }
}

impl JsonSchema for Hours {
    fn schema_name() -> Cow<'static, str> {
        "Hours".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "from when until when, such as \"22:00-07:00\"" })
    }
}

impl JsonSchema for Zone {
    fn schema_name() -> Cow<'static, str> {
        "Zone".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "a zone of time by its name, such as \"Europe/Zurich\"" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(moment: &str) -> Timestamp {
        Timestamp(moment.parse::<jiff::Timestamp>().expect("a moment").as_millisecond())
    }

    /// At each moment: when it is quiet no longer, or that it is not quiet.
    #[track_caller]
    fn check(hours: &str, zone: &str, cases: &[(&str, Option<&str>)]) {
        let (hours, zone): (Hours, Zone) = (hours.parse().expect("hours"), zone.parse().expect("a zone"));
        for (now, end) in cases {
            assert_eq!(hours.end(&zone, at(now)), end.map(at), "{hours} {zone} {now}");
        }
    }

    #[test]
    fn quiet_hours_reach_over_midnight_and_end_to_the_moment() {
        let morning = Some("2026-12-01T06:00:00Z");
        let cases = [
            ("2026-11-30T20:59:59.999Z", None),
            ("2026-11-30T21:00:00Z", morning),
            ("2026-11-30T22:59:59Z", morning),
            ("2026-11-30T23:00:00Z", morning),
            ("2026-12-01T05:59:59.999Z", morning),
            ("2026-12-01T06:00:00Z", None),
        ];
        check("22:00-07:00", "Europe/Zurich", &cases);
        let noon = Some("2026-11-30T13:30:00Z");
        let cases = [("2026-11-30T11:59:59Z", None), ("2026-11-30T12:00:00Z", noon), ("2026-11-30T13:30:00Z", None)];
        check("12:00-13:30", "UTC", &cases);
        check(
            "00:00-06:00",
            "UTC",
            &[("2026-11-30T00:00:00Z", Some("2026-11-30T06:00:00Z")), ("2026-11-29T23:59:59Z", None)],
        );
        check(
            "22:00-00:00",
            "UTC",
            &[("2026-11-30T23:59:59Z", Some("2026-12-01T00:00:00Z")), ("2026-12-01T00:00:00Z", None)],
        );
    }

    #[test]
    fn night_of_a_change_of_clocks_is_an_hour_shorter_or_longer() {
        // In 2026 Zurich's clocks go forward on 29 March at two, and back on 25 October at three.
        let shorter = Some("2026-03-29T05:00:00Z");
        check("22:00-07:00", "Europe/Zurich", &[("2026-03-28T21:00:00Z", shorter), ("2026-03-29T04:59:59Z", shorter)]);
        check("22:00-07:00", "Europe/Zurich", &[("2026-03-29T05:00:00Z", None), ("2026-03-28T20:59:59Z", None)]);
        let longer = Some("2026-10-25T06:00:00Z");
        check("22:00-07:00", "Europe/Zurich", &[("2026-10-24T20:00:00Z", longer), ("2026-10-25T05:59:59Z", longer)]);
        check("22:00-07:00", "Europe/Zurich", &[("2026-10-25T06:00:00Z", None), ("2026-10-24T19:59:59Z", None)]);
    }

    #[test]
    fn time_that_a_clock_jumps_over_or_shows_twice_is_one_moment() {
        // Half past two is not shown on 29 March, and would have been at half past one UTC.
        let end = Some("2026-03-29T01:30:00Z");
        check("22:00-02:30", "Europe/Zurich", &[("2026-03-29T00:59:59Z", end), ("2026-03-29T01:29:59Z", end)]);
        check("22:00-02:30", "Europe/Zurich", &[("2026-03-29T01:30:00Z", None)]);
        // On 25 October it is shown twice.
        let end = Some("2026-10-25T00:30:00Z");
        check("22:00-02:30", "Europe/Zurich", &[("2026-10-25T00:29:59Z", end), ("2026-10-25T00:30:00Z", None)]);
        check("22:00-02:30", "Europe/Zurich", &[("2026-10-25T01:10:00Z", None)]);
        let cases = [("2026-10-25T00:29:59Z", None), ("2026-10-25T00:30:00Z", Some("2026-10-25T03:00:00Z"))];
        check("02:30-04:00", "Europe/Zurich", &cases);
    }

    #[test]
    fn what_is_no_time_or_no_zone_is_refused_in_words() {
        for wrong in ["", "22:00", "25:00-07:00", "22:00-22:00", "22:00 07:00", "-", "a-b"] {
            assert!(wrong.parse::<Hours>().is_err(), "{wrong}");
        }
        for wrong in ["", "Zurich", "Europe/Nowhere", "../etc/passwd", "CET-1CEST"] {
            assert!(wrong.parse::<Zone>().is_err(), "{wrong}");
        }
        for good in ["22:00-07:00", "22:00:30-23:59:59"] {
            assert_eq!(good.parse::<Hours>().expect("hours").to_string(), good);
        }
        assert_eq!("europe/zurich".parse::<Zone>().expect("a zone").to_string(), "Europe/Zurich");
    }
}

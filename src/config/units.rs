//! Durations and sizes as people write them: `30s`, `7d`, `64KiB`.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time: `500ms`, `30s`, `10m`, `2h`, `7d`, or several of them: `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A number of bytes: `64KiB`, `1GiB`, `10MB`, or plain bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const PERIOD_FORM: &str = "a length of time such as \"500ms\", \"30s\", \"10m\", \"2h\" or \"7d\"";
const SIZE_FORM: &str = "a size such as \"64KiB\", \"1GiB\" or \"10MB\", or a number of bytes";

/// Units from the largest, so that writing one takes the first that divides.
const PERIODS: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// Other ways to write one.
const ALIASES: &[(&str, &str)] = &[
    ("day", "d"),
    ("days", "d"),
    ("hour", "h"),
    ("hours", "h"),
    ("min", "m"),
    ("minute", "m"),
    ("minutes", "m"),
    ("sec", "s"),
    ("second", "s"),
    ("seconds", "s"),
];
const SIZES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl Period {
    /// Parses it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim();
        let mut total = 0_u64;
        while !rest.is_empty() {
            let (number, after) = digits(rest)?;
            let unit_ends = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let unit =
                ALIASES.iter().find(|(alias, _)| *alias == &after[..unit_ends]).map_or(&after[..unit_ends], |a| a.1);
            let (_, factor) = PERIODS.iter().find(|(name, _)| *name == unit)?;
            total = total.checked_add(number.checked_mul(*factor)?)?;
            rest = after[unit_ends..].trim_start();
        }
        (!text.trim().is_empty()).then_some(Self(Duration::from_millis(total)))
    }
}

impl Size {
    /// Parses it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, unit) = digits(text.trim())?;
        let unit = unit.trim_start();
        if unit.is_empty() {
            return Some(Self(number));
        }
        let (_, factor) = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
        number.checked_mul(*factor).map(Self)
    }
}

fn digits(text: &str) -> Option<(u64, &str)> {
    let ends = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..ends].parse().ok()?, text[ends..].trim_start()))
}

fn write_in(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)], zero: &str) -> fmt::Result {
    match units.iter().find(|(_, factor)| value > 0 && value.is_multiple_of(*factor)) {
        Some((unit, factor)) => write!(f, "{}{unit}", value / factor),
        None => f.write_str(zero),
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_in(f, u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), PERIODS, "0s")
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_in(f, self.0, SIZES, "0B")
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom(format!("expected {PERIOD_FORM}")))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom(format!("expected {SIZE_FORM}")))
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": PERIOD_FORM })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "description": SIZE_FORM })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_people_write_them() {
        let cases = [
            ("30s", Some((30_000, "30s"))),
            ("7d", Some((604_800_000, "7d"))),
            ("1h30m", Some((5_400_000, "90m"))),
            ("1h 30m", Some((5_400_000, "90m"))),
            ("2 min", Some((120_000, "2m"))),
            ("500ms", Some((500, "500ms"))),
            ("0s", Some((0, "0s"))),
            ("30", None),
            ("", None),
            ("-1s", None),
            ("3 weeks", None),
            ("99999999999999999999s", None),
            ("9999999999999999999d", None),
        ];
        for (text, expected) in cases {
            let read = Period::parse(text).map(|p| (p.0.as_millis(), p.to_string()));
            assert_eq!(read, expected.map(|(ms, back)| (ms, back.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_read_and_written_as_people_write_them() {
        let cases = [
            ("64KiB", Some((65_536, "64KiB"))),
            ("1 GiB", Some((1 << 30, "1GiB"))),
            ("10mb", Some((10_000_000, "10MB"))),
            ("1024", Some((1_024, "1KiB"))),
            ("1", Some((1, "1B"))),
            ("1GB?", None),
            ("KiB", None),
            ("99999999999TiB", None),
        ];
        for (text, expected) in cases {
            let read = Size::parse(text).map(|s| (s.0, s.to_string()));
            assert_eq!(read, expected.map(|(bytes, back)| (bytes, back.to_owned())), "{text:?}");
        }
    }
}

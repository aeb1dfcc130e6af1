//! What a bottle may use of the host.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The `limits:` of a bottle. What is `None` was not asked for.
///
/// A limit that was asked for and that the host cannot enforce refuses to start (design promise 2);
/// which means enforces it is the backend's business and is told in the preflight.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Resident memory of all processes of the bottle together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Processors that the bottle may keep busy; fractions of one are allowed where a backend can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Processes and threads at one time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// What the bottle may write to disk: workspace, home and temporary files together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<ByteSize>,
    /// Wall-clock time from the agent's first instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<WallTime>,
}

/// A number of bytes; written `512MiB`, `4GiB`, `10GB` or as a plain number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// A span of time; written `90s`, `30m`, `4h` or `2d`. Kept in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub u64);

/// A quantity that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuantityError {
    /// Not a number followed by a unit.
    #[error("`{written}` is not {expected}")]
    Unreadable {
        /// What was written.
        written: String,
        /// What would have been right, with examples.
        expected: &'static str,
    },
    /// Zero, which would mean a bottle that cannot run.
    #[error("`{0}` must be more than zero")]
    Zero(String),
}

const SIZE_EXPECTED: &str = "a size such as `512MiB`, `4GiB` or `10GB`";
const TIME_EXPECTED: &str = "a time such as `90s`, `30m` or `4h`";

const SIZE_UNITS: [(&str, u64); 10] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

const TIME_UNITS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];

fn quantity(written: &str, units: &[(&str, u64)], expected: &'static str) -> Result<u64, QuantityError> {
    let unreadable = || QuantityError::Unreadable { written: written.to_owned(), expected };
    let trimmed = written.trim();
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| trimmed.strip_suffix(unit).map(|n| (n.trim_end(), *factor)))
        .unwrap_or((trimmed, 1));
    let number: u64 = number.replace('_', "").parse().map_err(|_| unreadable())?;
    match number.checked_mul(factor) {
        None => Err(unreadable()),
        Some(0) => Err(QuantityError::Zero(written.to_owned())),
        Some(total) => Ok(total),
    }
}

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(written: &str) -> Result<Self, Self::Err> {
        quantity(written, &SIZE_UNITS, SIZE_EXPECTED).map(Self)
    }
}

impl FromStr for WallTime {
    type Err = QuantityError;

    fn from_str(written: &str) -> Result<Self, Self::Err> {
        if written.trim().bytes().all(|byte| byte.is_ascii_digit()) {
            // `time: 4` could mean seconds or hours: the unit has to be said.
            return Err(QuantityError::Unreadable { written: written.to_owned(), expected: TIME_EXPECTED });
        }
        quantity(written, &TIME_UNITS, TIME_EXPECTED).map(Self)
    }
}

impl WallTime {
    /// The same as a standard duration.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
            if self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        assert_eq!("4GiB".parse(), Ok(ByteSize(4 << 30)));
        assert_eq!("10 GB".parse(), Ok(ByteSize(10_000_000_000)));
        assert_eq!("4096".parse(), Ok(ByteSize(4096)));
        assert_eq!(ByteSize(4 << 30).to_string(), "4GiB");
        assert!("4 gigs".parse::<ByteSize>().is_err());
        assert!("99999999999TiB".parse::<ByteSize>().is_err());
        assert_eq!("0B".parse::<ByteSize>(), Err(QuantityError::Zero("0B".into())));
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!("4h".parse(), Ok(WallTime(14_400)));
        assert_eq!(WallTime(14_400).to_string(), "4h");
        assert!("4".parse::<WallTime>().is_err());
    }
}

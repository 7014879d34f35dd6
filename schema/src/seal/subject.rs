//! Whom a sealed field is about, and how long it may be read.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AdminId, NetworkId, NodeId, UserId};

/// Whom a sealed field is about, and so whose key it is under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A person.
    User(UserId),
    /// A node that belongs to no person.
    Node(NodeId),
    /// A local administrator.
    Admin(AdminId),
    /// The network itself: texts that are confidential but about nobody in particular.
    Network(NetworkId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
            Self::Node(id) => id.fmt(f),
            Self::Admin(id) => id.fmt(f),
            Self::Network(id) => id.fmt(f),
        }
    }
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = match text.get(..UserId::PREFIX.len()) {
            Some(UserId::PREFIX) => text.parse().map(Self::User),
            Some(NodeId::PREFIX) => text.parse().map(Self::Node),
            Some(AdminId::PREFIX) => text.parse().map(Self::Admin),
            _ => text.parse().map(Self::Network),
        };
        parsed.map_err(|error| error.to_string())
    }
}

/// How long a sealed field may be read: until its subject is erased, or until its quarter lapses as well.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Retention {
    /// As long as the subject exists: names, policy texts.
    Identity,
    /// Connection records of one calendar quarter (UTC), for example `2026q4`.
    Connections(Quarter),
}

/// Which keys an event destroys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DestroyedKeys {
    /// All of one subject's.
    OfSubject(Subject),
    /// Those of one retention, whosever they are.
    OfRetention(Retention),
}

impl DestroyedKeys {
    /// Whether the key of this subject and retention is among them.
    pub fn contain(&self, of: &(Subject, Retention)) -> bool {
        match self {
            Self::OfSubject(subject) => of.0 == *subject,
            Self::OfRetention(retention) => of.1 == *retention,
        }
    }
}

/// A calendar quarter in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Quarter {
    year: i16,
    quarter: i8,
}

impl Quarter {
    /// The quarter that a moment falls into.
    pub fn of(time: jiff::Timestamp) -> Self {
        let date = time.to_zoned(jiff::tz::TimeZone::UTC).date();
        Self { year: date.year(), quarter: (date.month() - 1) / 3 + 1 }
    }
}

impl fmt::Display for Quarter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}q{}", self.year, self.quarter)
    }
}

impl From<Quarter> for String {
    fn from(quarter: Quarter) -> String {
        quarter.to_string()
    }
}

impl TryFrom<String> for Quarter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = text.split_once('q').and_then(|(year, quarter)| {
            Some(Self { year: year.parse().ok()?, quarter: quarter.parse().ok()? })
        });
        match parsed {
            Some(q) if (1..=4).contains(&q.quarter) && q.to_string() == text => Ok(q),
            _ => Err(format!("`{text}` is not a quarter such as 2026q4")),
        }
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => f.write_str("identity"),
            Self::Connections(quarter) => write!(f, "connections/{quarter}"),
        }
    }
}

impl FromStr for Retention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            None if text == "identity" => Ok(Self::Identity),
            Some(("connections", quarter)) => quarter.to_owned().try_into().map(Self::Connections),
            _ => Err(format!("`{text}` is not a retention such as identity or connections/2026q4")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters_are_those_of_the_calendar() {
        let quarter = Quarter::of("2026-11-23T08:00:00Z".parse().unwrap());
        assert_eq!(quarter.to_string(), "2026q4");
        assert_eq!(Quarter::try_from("2026q4".to_owned()), Ok(quarter));
        for bad in ["2026q5", "2026", "26q1", "2026q+1"] {
            assert!(Quarter::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn subjects_and_retentions_read_as_they_are_written() {
        let subjects = [
            Subject::User(UserId::from_bytes([1; 16])),
            Subject::Node(NodeId::from_bytes([2; 16])),
            Subject::Admin(AdminId::from_bytes([3; 16])),
            Subject::Network(NetworkId::from_bytes([4; 16])),
        ];
        for subject in subjects {
            assert_eq!(subject.to_string().parse(), Ok(subject));
        }
        let quarter = Quarter::of("2026-11-23T08:00:00Z".parse().unwrap());
        for retention in [Retention::Identity, Retention::Connections(quarter)] {
            assert_eq!(retention.to_string().parse(), Ok(retention));
        }
        assert!("tok_aaaaaaaaaaaaaaaaaaaaaaaaaa".parse::<Subject>().is_err());
        assert!("connections".parse::<Retention>().is_err());
    }
}

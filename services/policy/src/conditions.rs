//! What a rule asks of a connection beyond who, where and on which ports: device posture, a fresh sign-in, a second
//! factor, a time.
//!
//! Postures are Tailscale's (`postures`, `srcPosture`). The rest stands in a comment of the rule, so that the file loads
//! everywhere else unchanged:
//!
//! ```text
//! {
//!   // writ: {"mfa": true, "maxSignInAge": "8h", "until": "2026-12-31", "owner": "group:dba", "ticket": "OPS-7"}
//!   "action": "accept", "src": ["group:oncall"], "dst": ["tag:db:5432"],
//! }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};

use crate::document::Document;
use crate::duration;
use crate::error::PolicyError;
use crate::hujson::Value;
use crate::posture::{Attribute, Posture};
use crate::rules::Fields;

/// What a rule asks for before it allows a connection, and what is written down about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// The source has to meet one of these; none are asked for if it is empty.
    postures: Vec<Arc<Posture>>,
    mfa: bool,
    max_sign_in_age: Option<Duration>,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
}

/// What is written down about a rule, for people.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Notes {
    /// Who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}

/// What is known of a source at the moment that it asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Circumstances {
    /// The moment.
    pub now: Timestamp,
    /// When and how the source's user signed in; nothing if nobody has.
    pub sign_in: Option<SignedIn>,
    /// What is known of the device, such as `node:os`.
    pub attributes: BTreeMap<String, Attribute>,
}

/// A sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedIn {
    /// When.
    pub at: Timestamp,
    /// Whether with a second factor.
    pub mfa: bool,
}

/// A condition that is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmet {
    /// The rule holds from this moment on.
    NotYet(Timestamp),
    /// The rule held until this moment.
    NoLonger(Timestamp),
    /// A sign-in no older than this is asked for; the last one was then, if ever.
    SignInAge(Duration, Option<Timestamp>),
    /// A sign-in with a second factor is asked for.
    Mfa,
    /// One of these postures is asked for; why the nearest is not met.
    Posture(Vec<String>, String),
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unmet::NotYet(from) => write!(f, "it holds from {from} on"),
            Unmet::NoLonger(until) => write!(f, "it held until {until}"),
            Unmet::SignInAge(age, last) => {
                write!(f, "it asks for a sign-in no older than {}", duration::text(*age))?;
                match last {
                    Some(last) => write!(f, ", and the last one was at {last}"),
                    None => f.write_str(", and the node is known by its enrolment key only"),
                }
            }
            Unmet::Mfa => f.write_str("it asks for a sign-in with a second factor"),
            Unmet::Posture(names, why) => write!(f, "it asks for {}: {why}", names.join(" or ")),
        }
    }
}

impl Conditions {
    /// Whether nothing is asked for.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn with_postures(mut self, postures: Vec<Arc<Posture>>) -> Self {
        self.postures = postures;
        self
    }

    /// What is not met; nothing if all is.
    pub fn unmet(&self, known: &Circumstances) -> Vec<Unmet> {
        let mut unmet = Vec::new();
        unmet.extend(self.from.filter(|from| known.now < *from).map(Unmet::NotYet));
        unmet.extend(self.until.filter(|until| known.now >= *until).map(Unmet::NoLonger));
        if let Some(age) = self.max_sign_in_age {
            let is_fresh = |sign_in: SignedIn| ends(sign_in.at, age).is_some_and(|end| known.now < end);
            if !known.sign_in.is_some_and(is_fresh) {
                unmet.push(Unmet::SignInAge(age, known.sign_in.map(|sign_in| sign_in.at)));
            }
        }
        if self.mfa && !known.sign_in.is_some_and(|sign_in| sign_in.mfa) {
            unmet.push(Unmet::Mfa);
        }
        unmet.extend(self.unmet_posture(&known.attributes));
        unmet
    }

    /// Whether a device of these attributes meets what is asked of devices.
    pub(crate) fn unmet_posture(&self, attributes: &BTreeMap<String, Attribute>) -> Option<Unmet> {
        if self.postures.is_empty() {
            return None;
        }
        let mut why: Option<String> = None;
        for posture in &self.postures {
            match posture.unmet(attributes) {
                None => return None,
                Some(reason) => drop(why.get_or_insert(reason)),
            }
        }
        let names = self.postures.iter().map(|posture| posture.name.clone()).collect();
        Some(Unmet::Posture(names, why.unwrap_or_default()))
    }

    /// Until when a connection that meets the conditions now goes on meeting those that time alone can end.
    pub fn holds_until(&self, known: &Circumstances) -> Option<Timestamp> {
        let sign_in = self.max_sign_in_age.zip(known.sign_in);
        let stale = sign_in.and_then(|(age, sign_in)| ends(sign_in.at, age));
        [self.until, stale].into_iter().flatten().min()
    }
}

/// When a sign-in is so old.
fn ends(at: Timestamp, age: Duration) -> Option<Timestamp> {
    at.checked_add(SignedDuration::try_from(age).ok()?).ok()
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.postures.iter().map(|posture| posture.name.as_str()).collect();
        let parts = [
            (!names.is_empty()).then(|| format!("the device meets {}", names.join(" or "))),
            self.mfa.then(|| "signed in with a second factor".to_owned()),
            self.max_sign_in_age.map(|age| format!("signed in less than {} ago", duration::text(age))),
            self.from.map(|from| format!("from {from} on")),
            self.until.map(|until| format!("until {until}")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl Serialize for Conditions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Longest text of a note.
const MAX_NOTE_CHARS: usize = 256;

/// Longest sign-in age that says anything: a year.
const MAX_AGE_HOURS: u64 = 24 * 366;

/// Reads what the comment of a rule asks for and says.
pub(crate) fn read(document: &Document<'_>, value: &Value) -> Result<(Conditions, Notes), PolicyError> {
    const KEYS: [&str; 7] = ["mfa", "maxSignInAge", "from", "until", "owner", "purpose", "ticket"];
    let fields = Fields::read_exactly(document, value, &KEYS)?;
    let mut conditions = Conditions::default();
    if let Some(value) = fields.get("mfa") {
        conditions.mfa = document.boolean(value)?;
    }
    if let Some(value) = fields.get("maxSignInAge") {
        let refuse = |message: String| document.refuse(value.start, message);
        let age = duration::parse(document.string(value)?).map_err(refuse)?;
        if age.is_zero() || age > duration::hours(MAX_AGE_HOURS) {
            return Err(refuse(format!("a sign-in age is more than 0s and at most {MAX_AGE_HOURS}h")));
        }
        conditions.max_sign_in_age = Some(age);
    }
    if let Some(value) = fields.get("from") {
        conditions.from = Some(read_moment(document, value, DayEnd::Start)?);
    }
    if let Some(value) = fields.get("until") {
        let until = read_moment(document, value, DayEnd::End)?;
        if conditions.from.is_some_and(|from| from >= until) {
            return Err(document.refuse(value.start, "the rule would end before it begins"));
        }
        conditions.until = Some(until);
    }
    let note = |key: &str| fields.get(key).map(|value| read_note(document, value)).transpose();
    Ok((conditions, Notes { owner: note("owner")?, purpose: note("purpose")?, ticket: note("ticket")? }))
}

fn read_note(document: &Document<'_>, value: &Value) -> Result<String, PolicyError> {
    let text = document.string(value)?.trim();
    if text.is_empty() || text.chars().count() > MAX_NOTE_CHARS || text.chars().any(char::is_control) {
        let message = format!("a text of 1 to {MAX_NOTE_CHARS} characters on one line is expected here");
        return Err(document.refuse(value.start, message));
    }
    Ok(text.to_owned())
}

/// Which end of a day a date means.
#[derive(Clone, Copy)]
enum DayEnd {
    Start,
    End,
}

/// Reads a moment as RFC 3339 writes it, or a day, in UTC. A rule that holds until a day holds all that day.
fn read_moment(document: &Document<'_>, value: &Value, end: DayEnd) -> Result<Timestamp, PolicyError> {
    let text = document.string(value)?;
    let refuse = || {
        document
            .refuse(value.start, format!("{text:?} is neither a moment nor a day"))
            .with_help("write it as \"2026-03-14T10:02:00Z\" or \"2026-03-14\"")
    };
    if text.len() == "2026-03-14".len() {
        let day: Date = text.parse().map_err(|_| refuse())?;
        let day = match end {
            DayEnd::Start => day,
            DayEnd::End => day.tomorrow().map_err(|_| refuse())?,
        };
        return day.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp()).map_err(|_| refuse());
    }
    text.parse().map_err(|_| refuse())
}

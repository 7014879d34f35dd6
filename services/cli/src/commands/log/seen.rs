//! What witnesses have seen of a log, and when: between which times its records were logged.

use jiff::{SignedDuration, Timestamp};
use writ_ledger::{CosignedHistory, Hash, LogKeys, TrustPolicy};

use crate::output::{counted, local_time};

/// How far a witness's clock and the server's may be apart, and how long a record may be on its way to a witness.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// A checkpoint that a quorum has cosigned.
#[derive(Debug, Clone, Copy)]
struct Sight {
    size: u64,
    root: Hash,
    /// No witness had seen more by then.
    since: Timestamp,
    /// A quorum had seen it by then.
    until: Timestamp,
}

/// All such checkpoints of a log, by size.
#[derive(Debug, Clone, Default)]
pub struct Sights(Vec<Sight>);

impl Sights {
    /// Those of a history that a key of the log has signed and that satisfy the policy. Others bound nothing: who is a witness
    /// changes over the years.
    pub fn of(history: &CosignedHistory, keys: &LogKeys, policy: &TrustPolicy) -> Self {
        let sight = |note: &str| {
            let signed = keys.open(note).ok()?;
            let standing = policy.check_cosignatures(&signed).ok()?;
            let since = standing.cosigned.iter().map(|by| by.unix_seconds).min()?;
            let (size, root) = (signed.checkpoint().size, signed.checkpoint().root);
            Some(Sight { size, root, since: time(since)?, until: time(standing.witnessed_by?)? })
        };
        let mut sights: Vec<Sight> = history.notes().filter_map(sight).collect();
        sights.sort_by_key(|sight| sight.size);
        Self(sights)
    }

    /// The trees that were seen, as size and root: the log has to continue each of them.
    pub fn trees(&self) -> impl Iterator<Item = (u64, Hash)> {
        self.0.iter().map(|sight| (sight.size, sight.root))
    }

    /// What is wrong with the time that a record gives itself, if something is.
    pub fn contradict(&self, seq: u64, dated: Timestamp) -> Option<String> {
        let covering = self.0.partition_point(|sight| sight.size <= seq);
        let before = self.0.get(..covering).unwrap_or_default().iter().max_by_key(|sight| sight.since);
        if let Some(Sight { size, since, .. }) = before
            && since.duration_since(dated) > TOLERANCE
        {
            return Some(format!(
                "it is dated {dated}, but at {since} witnesses had seen only {size} records: it was logged later than it says"
            ));
        }
        let after = self.0.get(covering..).unwrap_or_default().iter().min_by_key(|sight| sight.until)?;
        (dated.duration_since(after.until) > TOLERANCE).then(|| {
            format!(
                "it is dated {dated}, but witnesses saw it at {}: it was logged earlier than it says",
                after.until
            )
        })
    }

    /// What bounds the records' times, for people.
    pub fn told(&self) -> String {
        match &self.0[..] {
            [] => String::new(),
            [only] => format!(
                "One checkpoint that witnesses cosigned before, at {}, bounds when its records were logged.\n",
                local_time(only.since)
            ),
            [first, .., last] => format!(
                "{} that witnesses cosigned before, from {} to {}, bound when its records were logged.\n",
                counted(self.0.len() as u64, "checkpoint"),
                local_time(first.since),
                local_time(last.since)
            ),
        }
    }
}

fn time(unix_seconds: u64) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(unix_seconds).ok()?).ok()
}

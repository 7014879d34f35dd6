//! Who is asked to cosign the log's checkpoints.

use serde::{Deserialize, Serialize};
use writ_ledger::CosignerKey;

use super::ConfigError;

/// Most witnesses of a log. A note is read with 64 signatures.
const MAX_WITNESSES: usize = 32;

/// A witness, as it stands in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessEntry {
    /// Its public key, as its operator publishes it.
    pub vkey: String,
    /// Where it takes checkpoints: `URL/add-checkpoint`.
    pub url: String,
}

/// A witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Its public key.
    pub key: CosignerKey,
    /// Where it takes checkpoints, without a slash at the end.
    pub url: String,
}

/// Who is asked, and how many of them make a quorum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Panel {
    /// The witnesses.
    pub witnesses: Vec<Witness>,
    /// How many have to cosign what is published.
    pub quorum: usize,
}

impl Panel {
    /// Reads what the configuration says. Without a number, more than half are a quorum.
    pub fn read(entries: &[WitnessEntry], quorum: Option<usize>) -> Result<Self, ConfigError> {
        let wrong = |key, problem: String| ConfigError::Value { key, problem };
        if entries.len() > MAX_WITNESSES {
            return Err(wrong("witness", format!("at most {MAX_WITNESSES} witnesses can be asked")));
        }
        let mut witnesses: Vec<Witness> = Vec::with_capacity(entries.len());
        for WitnessEntry { vkey, url } in entries {
            let key: CosignerKey =
                vkey.parse().map_err(|error| wrong("witness.vkey", format!("{vkey}: {error}")))?;
            if !(url.starts_with("https://") || url.starts_with("http://")) {
                return Err(wrong("witness.url", format!("{url}: expected https://HOST[:PORT][/PREFIX]")));
            }
            if witnesses.iter().any(|known| known.key.as_bytes() == key.as_bytes()) {
                return Err(wrong("witness.vkey", format!("{vkey}: the key is given twice")));
            }
            witnesses.push(Witness { key, url: url.trim_end_matches('/').to_owned() });
        }
        let quorum = quorum.unwrap_or(if witnesses.is_empty() { 0 } else { witnesses.len() / 2 + 1 });
        if quorum > witnesses.len() || (quorum == 0 && !witnesses.is_empty()) {
            let problem = format!("expected 1 to {}, the number of witnesses", witnesses.len());
            return Err(wrong("witness_quorum", problem));
        }
        Ok(Self { witnesses, quorum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use writ_ledger::CosigningKey;

    fn entry(byte: u8) -> WitnessEntry {
        let key = CosigningKey::from_seed(&format!("w{byte}.example"), [byte; 32]).unwrap().cosigner_key();
        WitnessEntry { vkey: key.to_string(), url: "https://w.example/".to_owned() }
    }

    #[test]
    fn more_than_half_of_the_witnesses_are_a_quorum_unless_told_otherwise() {
        for (count, quorum) in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3)] {
            let entries: Vec<_> = (1..=count).map(entry).collect();
            let panel = Panel::read(&entries, None).unwrap();
            assert_eq!((panel.witnesses.len(), panel.quorum), (usize::from(count), quorum));
        }
        assert_eq!(Panel::read(&[entry(1), entry(2)], Some(1)).unwrap().quorum, 1);
        assert_eq!(Panel::read(&[entry(1)], None).unwrap().witnesses[0].url, "https://w.example");
    }

    #[test]
    fn a_panel_that_makes_no_sense_is_refused_by_name() {
        let log = writ_ledger::SigningKey::from_seed("writ.example/log", [1; 32]).unwrap().verifier_key();
        for (entries, quorum, problem) in [
            (vec![entry(1)], Some(2), "witness_quorum: expected 1 to 1"),
            (vec![entry(1)], Some(0), "witness_quorum: expected 1 to 1"),
            (vec![], Some(1), "witness_quorum: expected 1 to 0"),
            (vec![entry(1), entry(1)], None, "given twice"),
            (vec![WitnessEntry { vkey: log.to_string(), ..entry(1) }], None, "a log's key"),
            (vec![WitnessEntry { url: "w.example".to_owned(), ..entry(1) }], None, "witness.url"),
            ((1..=33).map(entry).collect(), None, "at most 32"),
        ] {
            let error = Panel::read(&entries, quorum).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}

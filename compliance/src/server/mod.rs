//! Evidence from a network, through its GraphQL API and no other way.
//!
//! The server is not believed. It selects records and proves them; every bundle is verified under the log's key, the
//! bundles' checkpoints are proven to be of one growing log, and the report judges exactly the records of the bundles, so
//! that report and evidence stand on the same bytes. Where the period begins and ends is proven by the records there. How
//! many records it holds of each kind is the server's count: it has to agree with what is proven of the kinds that are
//! asked for, and to add up to the range. What a server wrongly counts under a kind that nobody asks for cannot be seen
//! here: whoever doubts it reads the log.

mod extent;
mod graphql;

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use writ_ledger::{
    Bundle, ConsistencyProof, CosignerKey, Hash, LogKeys, Note, Rotation, SignedCheckpoint, TrustPolicy,
    VerifierKey,
};
use writ_schema::{Event, Record, Seq};

use crate::entry::Entry;
use crate::evidence::{CHART_KINDS, Checkpoint, EvidenceError, MAX_ENTRIES, Period};
use crate::framework::{EvidenceQuery, Framework};
use crate::memory::Records;
use extent::Claimed;
use graphql::Graphql;

/// Where a network's log is asked, and how its answers are recognised.
pub struct Server {
    url: String,
    graphql: Graphql,
    log_key: VerifierKey,
    /// Most records of one bundle; as many as the server allows if absent.
    bundle_records: Option<u32>,
    /// Who has to have cosigned the bundles' checkpoints.
    policy: Option<TrustPolicy>,
}

/// The evidence of a report, verified.
pub struct Fetched {
    /// The records.
    pub records: Records,
    /// The bundles that prove them, byte for byte as `writ verify` reads them.
    pub bundles: Vec<String>,
    /// How many records of the log were considered.
    pub as_of_size: u64,
}

impl Fetched {
    /// SHA-256, hex: of the bundle, or of the digests of several in order.
    pub fn digest(&self) -> String {
        match self.bundles.as_slice() {
            [bundle] => digest(bundle.as_bytes()),
            bundles => {
                digest(bundles.iter().map(|bundle| digest(bundle.as_bytes())).collect::<String>().as_bytes())
            }
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

impl Server {
    /// A server at a URL, recognised by its certificate's pin or else by the authorities that the system trusts.
    pub fn new(url: &str, pin: Option<&str>, token: &str, log_key: &str) -> Result<Self, EvidenceError> {
        let problem = |problem: String| EvidenceError::Source { source_name: url.to_owned(), problem };
        let log_key = log_key.parse().map_err(|error| problem(format!("the log's key: {error}")))?;
        let graphql = Graphql::new(url, pin, token).map_err(|error| problem(format!("{error:#}")))?;
        Ok(Self { url: url.to_owned(), graphql, log_key, bundle_records: None, policy: None })
    }

    /// With at most so many records in one bundle.
    pub fn with_bundles_of(self, records: u32) -> Self {
        Self { bundle_records: Some(records), ..self }
    }

    /// Counts the witnesses of this policy, whose quorum has to have cosigned; without one, those that the server names.
    pub fn with_policy(self, policy: TrustPolicy) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// The witnesses that count.
    fn witnesses(&self) -> Result<Vec<CosignerKey>, EvidenceError> {
        if let Some(policy) = &self.policy {
            return Ok(policy.witnesses().iter().map(|witness| witness.key.clone()).collect());
        }
        let named: Named =
            self.ask("query { named: witnesses { witnesses { vkey } } }", json!({}), "named")?;
        let keys = named.witnesses.iter().map(|witness| witness.vkey.parse());
        keys.collect::<Result<_, _>>().map_err(|error| self.problem(&format!("a witness's key: {error}")))
    }

    /// How many witnesses have cosigned the checkpoint of a bundle that is verified.
    fn cosignatures(&self, bundle: &str, witnesses: &[CosignerKey]) -> Result<u64, EvidenceError> {
        let wrong = |error: &dyn std::fmt::Display| self.problem(&error.to_string());
        let bundle = Bundle::parse(bundle.as_bytes()).map_err(|error| wrong(&error))?;
        if let Some(policy) = &self.policy {
            let key = bundle.vkey().parse::<VerifierKey>().map_err(|error| wrong(&error))?;
            let signed = SignedCheckpoint::open(bundle.checkpoint(), &key).map_err(|error| wrong(&error))?;
            policy.check_cosignatures(&signed).map_err(|error| wrong(&error))?;
        }
        let note: Note = bundle.checkpoint().parse().map_err(|error| wrong(&error))?;
        let cosigned = witnesses.iter().filter(|witness| matches!(witness.cosigned(&note), Ok(Some(_))));
        Ok(cosigned.count() as u64)
    }

    /// Everything that a framework's controls and charts ask for, verified.
    pub fn fetch(&self, framework: &Framework, period: Period) -> Result<Fetched, EvidenceError> {
        let claimed: Claimed = self.ask(
            "query ($from: Timestamp!, $to: Timestamp!) {
               extent: history(from: $from, to: $to) { first last counts { kind count } asOf { seq } } }",
            json!({ "from": period.from, "to": period.to }),
            "extent",
        )?;
        let last = claimed.last().ok_or_else(|| self.problem("the log is empty"))?;
        let wanted = Wanted::of(framework, period, last, claimed.ends());
        let bundles = self.bundles(&wanted)?;
        let witnesses = self.witnesses()?;
        let mut cosigned = u64::MAX;
        let mut entries = BTreeMap::new();
        let mut trees = Vec::new();
        let mut network = None;
        for text in &bundles {
            let (records, tree) = self.verified(text)?;
            for record in records {
                if let Event::NetworkCreated(created) = &record.event {
                    network = Some(created.network.to_string());
                }
                // The record after the last shows where the period ends. A change of the log's key that came later still is
                // there only for the signature.
                if record.seq <= Seq(last.saturating_add(1)) {
                    entries.insert(record.seq, Entry::from(record));
                }
            }
            trees.push(tree);
            // What not all of the evidence has, the report does not claim.
            cosigned = cosigned.min(self.cosignatures(text, &witnesses)?);
            if entries.len() > MAX_ENTRIES {
                return Err(EvidenceError::TooMany);
            }
        }
        let network = network.ok_or_else(|| self.problem("record 0 does not name a network"))?;
        let extent =
            claimed.checked(period, &wanted.kinds(), &entries).map_err(|what| self.problem(&what))?;
        let checkpoint = self.checkpoint(last.saturating_add(1), &trees)?;
        let records = Records::new(network, period, entries.into_values().collect());
        let records = records.of_extent(extent).verified(checkpoint, cosigned);
        Ok(Fetched { records, bundles, as_of_size: last.saturating_add(1) })
    }

    /// Has the network record that a report was made.
    pub fn record_report(&self, framework: &str, fetched: &Fetched) -> Result<(), EvidenceError> {
        let _: Value = self.ask(
            "mutation ($framework: String!, $digest: String!, $size: UInt!) {
               done: recordReport(framework: $framework, bundleDigest: $digest, asOfSize: $size) { command } }",
            json!({ "framework": framework, "digest": fetched.digest(), "size": fetched.as_of_size }),
            "done",
        )?;
        Ok(())
    }

    /// Bundles of all that is wanted: one, where one can hold it.
    fn bundles(&self, wanted: &Wanted<'_>) -> Result<Vec<String>, EvidenceError> {
        let mut pages = Vec::new();
        let mut after = None;
        loop {
            let page: Page = self.ask(
                "query ($subject: String!, $seqs: [UInt!]!, $selection: SelectionInput!) {
                   page: evidenceBundle(subject: $subject, seqs: $seqs, selection: $selection) { text hasMore lastSeq } }",
                wanted.page(after, self.bundle_records),
                "page",
            )?;
            pages.push(page.text);
            if !page.has_more {
                return Ok(pages);
            }
            if after.is_some_and(|before| before >= page.last_seq) {
                return Err(self.problem("the server's pages do not advance"));
            }
            after = Some(page.last_seq);
        }
    }

    /// The records of a bundle, each proven to stand in the log, and the tree in which they do.
    fn verified(&self, text: &str) -> Result<(Vec<Record>, Tree), EvidenceError> {
        let bundle = Bundle::parse(text.as_bytes()).map_err(|error| self.problem(&error.to_string()))?;
        let rotations = bundle.entries().iter().filter_map(|entry| {
            let statement = Record::log_key_rotation(entry.record.as_bytes())?;
            Some(Rotation { index: entry.index, statement })
        });
        let rotations: Vec<Rotation> = rotations.collect();
        let keys = LogKeys::trace(self.log_key.clone(), &rotations);
        let keys = keys.map_err(|error| self.problem(&error.to_string()))?;
        let report = bundle.verify_under(&keys).map_err(|error| self.problem(&error.to_string()))?;
        let records: Result<Vec<_>, _> =
            bundle.entries().iter().map(|entry| self.decode(entry.index, &entry.record)).collect();
        Ok((records?, Tree { size: report.checkpoint.size, root: report.checkpoint.root }))
    }

    fn decode(&self, index: u64, text: &str) -> Result<Record, EvidenceError> {
        let record = Record::decode(text.as_bytes()).map_err(|error| self.problem(&error.to_string()))?;
        if record.seq == Seq(index) {
            return Ok(record);
        }
        Err(self.problem(&format!("the record at position {index} says that it is record {}", record.seq)))
    }

    /// The tree as it was at a size, proven to be one growing log with the tree of each bundle's signed checkpoint. Unlike
    /// those checkpoints it is the same in every report on the same records.
    fn checkpoint(&self, size: u64, signed: &[Tree]) -> Result<Checkpoint, EvidenceError> {
        let mut trees: BTreeMap<u64, Option<Hash>> = BTreeMap::from([(size, None)]);
        for tree in signed {
            let known = trees.entry(tree.size).or_default().get_or_insert(tree.root);
            if *known != tree.root {
                return Err(
                    self.problem(&format!("the server signed two different logs of {} records", tree.size))
                );
            }
        }
        if trees.last_key_value().is_none_or(|(_, root)| root.is_none()) {
            return Err(self.problem("no signed checkpoint covers the last record"));
        }
        // From the newest, which is signed, back to the oldest: every root that is met is proven.
        let mut newer: Option<Tree> = None;
        for (old_size, root) in trees.iter_mut().rev() {
            if let Some(newer) = newer {
                let (claimed, proof) = self.consistency(*old_size, newer.size)?;
                let old_root = root.get_or_insert(claimed);
                proof.verify(old_root, &newer.root).map_err(|error| {
                    self.problem(&format!("the log does not go on from its own past: {error}"))
                })?;
            }
            newer = root.map(|root| Tree { size: *old_size, root });
        }
        let root = trees.get(&size).copied().flatten().ok_or_else(|| self.problem("there is no tree"))?;
        Ok(Checkpoint { origin: self.log_key.name().to_owned(), size, root: root.to_string() })
    }

    fn consistency(&self, old_size: u64, new_size: u64) -> Result<(Hash, ConsistencyProof), EvidenceError> {
        let found: Consistency = self.ask(
            "query ($old: UInt!, $new: UInt!) { proof: consistency(oldSize: $old, newSize: $new) { oldRoot hashes } }",
            json!({ "old": old_size, "new": new_size }),
            "proof",
        )?;
        let hash = |text: &String| text.parse::<Hash>().map_err(|_| self.problem("a proof holds no hash"));
        let hashes = found.hashes.iter().map(hash).collect::<Result<_, _>>()?;
        Ok((hash(&found.old_root)?, ConsistencyProof { old_size, new_size, hashes }))
    }

    fn ask<T: DeserializeOwned>(
        &self,
        document: &str,
        variables: Value,
        field: &str,
    ) -> Result<T, EvidenceError> {
        self.graphql.ask(document, &variables, field).map_err(|error| self.problem(&format!("{error:#}")))
    }

    fn problem(&self, problem: &str) -> EvidenceError {
        EvidenceError::Source { source_name: self.url.clone(), problem: problem.to_owned() }
    }
}

/// A tree of the log, as a signed checkpoint names it.
#[derive(Clone, Copy)]
struct Tree {
    size: u64,
    root: Hash,
}

/// What a report needs: some kinds of all time, some of the period, and a few records by their numbers.
struct Wanted<'a> {
    framework: &'a Framework,
    history: BTreeSet<String>,
    within: BTreeSet<String>,
    period: Period,
    last: u64,
    named: BTreeSet<u64>,
}

impl<'a> Wanted<'a> {
    fn of(framework: &'a Framework, period: Period, last: u64, mut named: BTreeSet<u64>) -> Self {
        let EvidenceQuery { period: mut within, history } = framework.evidence();
        within.extend(CHART_KINDS.map(str::to_owned));
        let within = within.difference(&history).cloned().collect();
        // It says which network this is.
        named.insert(0);
        Self { framework, history, within, period, last, named }
    }

    /// Every kind that is to be complete within the period.
    fn kinds(&self) -> BTreeSet<String> {
        self.history.union(&self.within).cloned().collect()
    }

    /// The question for the page after a record.
    fn page(&self, after: Option<u64>, limit: Option<u32>) -> Value {
        let of_all_time = json!({ "kinds": self.history, "to": self.period.to });
        let of_period = json!({ "kinds": self.within, "from": self.period.from, "to": self.period.to });
        // An empty list of kinds would mean every kind.
        let filters = [(&self.history, of_all_time), (&self.within, of_period)].into_iter();
        let filters: Vec<Value> =
            filters.filter(|(kinds, _)| !kinds.is_empty()).map(|(_, filter)| filter).collect();
        let named: Vec<u64> = self.named.iter().copied().filter(|_| after.is_none()).collect();
        json!({
            "subject": format!("report {}", self.framework.id),
            "seqs": named,
            "selection": { "filters": filters, "after": after, "limit": limit, "asOf": { "record": self.last } },
        })
    }
}

#[derive(Deserialize)]
struct Named {
    witnesses: Vec<NamedWitness>,
}

#[derive(Deserialize)]
struct NamedWitness {
    vkey: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    text: String,
    has_more: bool,
    last_seq: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consistency {
    old_root: String,
    hashes: Vec<String>,
}

//! Evidence from a network, through its GraphQL API and no other way.
//!
//! The server is not believed. It selects records and proves them; every bundle is verified under the log's key, and
//! the report judges exactly the records of the bundles, so that report and evidence stand on the same bytes. What a
//! server leaves out cannot be seen here: the cover names the range, and whoever doubts it reads the log.

mod tls;

use std::collections::BTreeMap;
use std::time::Duration;

use data_encoding::HEXLOWER;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use writ_ledger::{Bundle, ConsistencyProof, Hash, SignedCheckpoint, VerifierKey};
use writ_schema::{Event, Record};

use crate::entry::Entry;
use crate::evidence::{CHART_KINDS, Checkpoint, EvidenceError, MAX_ENTRIES, Period};
use crate::framework::{EvidenceQuery, Framework};
use crate::memory::Records;

/// Largest answer that is read.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// How long the server may take over one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Most records that may be named one by one in a question.
const MAX_NAMED: usize = 10_000;

/// Where a network's log is asked, and how its answers are recognised.
pub struct Server {
    url: String,
    http: reqwest::Client,
    authorization: HeaderValue,
    log_key: VerifierKey,
    runtime: Runtime,
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

/// Whether nobody on the way can read what is sent: TLS, or this machine.
fn is_private(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let is_local = match url.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse().is_ok_and(|address: std::net::Ipv4Addr| address.is_loopback()),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_local)
}

fn digest(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

impl Server {
    /// A server at a URL, recognised by its certificate's pin or else by the authorities of the web.
    pub fn new(url: &str, pin: Option<&str>, token: &str, log_key: &str) -> Result<Self, EvidenceError> {
        let problem = |problem: String| EvidenceError::Source { source_name: url.to_owned(), problem };
        if !is_private(url) {
            return Err(problem("the token would travel in the clear; use https://".to_owned()));
        }
        let log_key = log_key.parse().map_err(|error| problem(format!("the log's key: {error}")))?;
        let mut builder =
            reqwest::Client::builder().timeout(ANSWER_TIMEOUT).redirect(reqwest::redirect::Policy::none());
        if let Some(pin) = pin {
            let pinned = tls::pinned(pin).map_err(|error| problem(format!("the pin: {error}")))?;
            builder = builder.tls_backend_preconfigured(pinned);
        }
        let http = builder.build().map_err(|error| problem(error.to_string()))?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|_| problem("the token is not a line of text".to_owned()))?;
        authorization.set_sensitive(true);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| problem(error.to_string()))?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), http, authorization, log_key, runtime })
    }

    /// Everything that a framework's controls and charts ask for, verified.
    pub fn fetch(&self, framework: &Framework, period: Period) -> Result<Fetched, EvidenceError> {
        let extent: Extent = self.ask(
            "query ($from: Timestamp!, $to: Timestamp!) { extent: history(from: $from, to: $to) { last asOf { seq } } }",
            json!({ "from": period.from, "to": period.to }),
            "extent",
        )?;
        let last = extent.last.or(extent.as_of.seq).ok_or_else(|| self.problem("the log is empty"))?;
        let bundles = self.bundles(framework, period, last)?;
        let mut entries = BTreeMap::new();
        let mut network = None;
        for text in &bundles {
            for record in self.verified(text)? {
                if let Event::NetworkCreated(created) = &record.event {
                    network = Some(created.network.to_string());
                }
                entries.insert(record.seq, Entry::from(record));
            }
            if entries.len() > MAX_ENTRIES {
                return Err(EvidenceError::TooMany);
            }
        }
        let network = network.ok_or_else(|| self.problem("record 0 does not name a network"))?;
        let checkpoint = self.checkpoint(last + 1)?;
        let records = Records::new(network, period, entries.into_values().collect()).verified(checkpoint, 0);
        Ok(Fetched { records, bundles, as_of_size: last + 1 })
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

    /// Bundles of what the controls ask of all time, and of what they ask of the period. One, where one can hold both.
    fn bundles(
        &self,
        framework: &Framework,
        period: Period,
        last: u64,
    ) -> Result<Vec<String>, EvidenceError> {
        let EvidenceQuery { period: mut within, history } = framework.evidence();
        within.extend(CHART_KINDS.map(str::to_owned));
        let within: Vec<_> = within.difference(&history).collect();
        let subject = format!("report {}", framework.id);
        let of_all_time =
            Selection { filter: json!({ "kinds": history, "to": period.to }), last, subject: &subject };
        let of_period = Selection {
            filter: json!({ "kinds": within, "from": period.from, "to": period.to }),
            last,
            subject: &subject,
        };
        let mut bundles = self.pages(&of_all_time, &[0])?;
        let named: Vec<u64> = match bundles.as_slice() {
            [one] => self.parse(one)?.entries().iter().map(|entry| entry.index).collect(),
            _ => Vec::new(),
        };
        if !named.is_empty() && named.len() <= MAX_NAMED {
            return self.pages(&of_period, &named);
        }
        bundles.extend(self.pages(&of_period, &[0])?);
        Ok(bundles)
    }

    fn pages(&self, selection: &Selection<'_>, named: &[u64]) -> Result<Vec<String>, EvidenceError> {
        let mut pages = Vec::new();
        let mut after = None;
        loop {
            let seqs = if pages.is_empty() { named } else { &named[..named.len().min(1)] };
            let page: Page = self.ask(
                "query ($subject: String!, $seqs: [UInt!]!, $selection: SelectionInput!) {
                   page: evidenceBundle(subject: $subject, seqs: $seqs, selection: $selection) { text hasMore lastSeq } }",
                json!({ "subject": selection.subject, "seqs": seqs, "selection": selection.after(after) }),
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

    fn parse(&self, text: &str) -> Result<Bundle, EvidenceError> {
        Bundle::parse(text.as_bytes()).map_err(|error| self.problem(&error.to_string()))
    }

    /// The records of a bundle, each proven to stand in the log.
    fn verified(&self, text: &str) -> Result<Vec<Record>, EvidenceError> {
        let bundle = self.parse(text)?;
        bundle.verify(&self.log_key).map_err(|error| self.problem(&error.to_string()))?;
        bundle.entries().iter().map(|entry| self.decode(entry.index, &entry.record)).collect()
    }

    fn decode(&self, index: u64, text: &str) -> Result<Record, EvidenceError> {
        let record = Record::decode(text.as_bytes()).map_err(|error| self.problem(&error.to_string()))?;
        if record.seq.0 == index {
            return Ok(record);
        }
        Err(self.problem(&format!("the record at position {index} says that it is record {}", record.seq)))
    }

    /// The tree as it was at a size, proven to be what the log's newest checkpoint goes on from. Unlike the newest
    /// checkpoint it is the same in every report on the same records.
    fn checkpoint(&self, size: u64) -> Result<Checkpoint, EvidenceError> {
        let proof: Consistency = self.ask(
            "query ($size: UInt!) { proof: consistency(oldSize: $size) { oldRoot hashes checkpoint { note } } }",
            json!({ "size": size }),
            "proof",
        )?;
        let newest = SignedCheckpoint::open(&proof.checkpoint.note, &self.log_key);
        let newest = newest.map_err(|error| self.problem(&error.to_string()))?;
        let newest = newest.checkpoint();
        let hash = |text: &String| text.parse::<Hash>().map_err(|_| self.problem("a proof holds no hash"));
        let root = hash(&proof.old_root)?;
        let hashes = proof.hashes.iter().map(hash).collect::<Result<_, _>>()?;
        ConsistencyProof { old_size: size, new_size: newest.size, hashes }
            .verify(&root, &newest.root)
            .map_err(|error| self.problem(&format!("the log does not go on from its own past: {error}")))?;
        Ok(Checkpoint { origin: newest.origin.clone(), size, root: proof.old_root })
    }

    fn ask<T: DeserializeOwned>(
        &self,
        document: &str,
        variables: Value,
        field: &str,
    ) -> Result<T, EvidenceError> {
        self.runtime.block_on(self.post(&json!({ "query": document, "variables": variables }), field))
    }

    async fn post<T: DeserializeOwned>(&self, question: &Value, field: &str) -> Result<T, EvidenceError> {
        let sent =
            self.http.post(format!("{}/graphql", self.url)).header(AUTHORIZATION, self.authorization.clone());
        let mut response = sent.json(question).send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(self.problem(&format!("the answer has more than {MAX_ANSWER_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| self.problem(&format!("the answer ({status}) is not GraphQL")))?;
        if let Some(error) = answer.errors.first() {
            return Err(self.problem(&error.message));
        }
        if let Some(message) = answer.message {
            return Err(self.problem(&message));
        }
        let value = answer.data.and_then(|mut data| data.get_mut(field).map(Value::take));
        let value = value.ok_or_else(|| self.problem(&format!("the answer ({status}) holds no data")))?;
        serde_json::from_value(value).map_err(|error| self.problem(&format!("an unexpected answer: {error}")))
    }

    fn unreachable(&self, error: &reqwest::Error) -> EvidenceError {
        let mut problem = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            problem = cause.to_string();
            source = cause.source();
        }
        self.problem(&problem)
    }

    fn problem(&self, problem: &str) -> EvidenceError {
        EvidenceError::Source { source_name: self.url.clone(), problem: problem.to_owned() }
    }
}

struct Selection<'a> {
    filter: Value,
    last: u64,
    subject: &'a str,
}

impl Selection<'_> {
    fn after(&self, after: Option<u64>) -> Value {
        json!({ "filter": self.filter, "after": after, "asOf": { "record": self.last } })
    }
}

/// A GraphQL answer, or the server's refusal of the request as a whole.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    data: Option<Value>,
    #[serde(default)]
    errors: Vec<GraphqlError>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct GraphqlError {
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Extent {
    last: Option<u64>,
    as_of: AsOf,
}

#[derive(Deserialize)]
struct AsOf {
    seq: Option<u64>,
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
    checkpoint: Note,
}

#[derive(Deserialize)]
struct Note {
    note: String,
}

#[cfg(test)]
mod tests {
    use super::is_private;

    #[test]
    fn a_token_goes_over_tls_or_stays_on_this_machine() {
        for url in ["https://writ.example", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:80"] {
            assert!(is_private(url), "{url}");
        }
        for url in ["http://writ.example", "http://192.0.2.1", "ftp://127.0.0.1", "writ.example"] {
            assert!(!is_private(url), "{url}");
        }
    }
}

//! One question to the control plane, and its answer: TLS, token, GraphQL, and patience with a busy server.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

/// Largest answer that is read.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// How long the server may take over one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a busy server is asked.
const MAX_ATTEMPTS: u32 = 6;
/// How long a busy server is left alone where it does not say.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest that a busy server may ask to be left alone.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Asks one server, as one person.
pub(super) struct Graphql {
    endpoint: String,
    http: reqwest::Client,
    authorization: HeaderValue,
    runtime: Runtime,
}

/// Why there is no answer this time.
enum Failure {
    /// The server is busy: after this time it may answer.
    Busy(Duration, String),
    /// Asking again would not help.
    Final(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Final(error)
    }
}

impl Graphql {
    /// A server at a URL, recognised by its certificate's pin or else by the authorities that the system trusts.
    pub(super) fn new(url: &str, pin: Option<&str>, token: &str) -> anyhow::Result<Self> {
        ensure!(writ_tls::is_private(url), "the token would travel in the clear; use https://");
        let config = match pin {
            Some(pin) => writ_tls::by_pin(pin.parse()?)?.0,
            None => writ_tls::by_authority()?,
        };
        let http = reqwest::Client::builder()
            .timeout(ANSWER_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(config)
            .build()?;
        let authorization = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
        let mut authorization = authorization.map_err(|_| anyhow!("the token is not a line of text"))?;
        authorization.set_sensitive(true);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let endpoint = format!("{}/graphql", url.trim_end_matches('/'));
        Ok(Self { endpoint, http, authorization, runtime })
    }

    /// The value of one field of the answer. A busy server is asked again, no sooner than it wishes.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        document: &str,
        variables: &Value,
        field: &str,
    ) -> anyhow::Result<T> {
        let question = json!({ "query": document, "variables": variables });
        self.runtime.block_on(async {
            for attempt in 1.. {
                match self.post(&question, field).await {
                    Ok(value) => return serde_json::from_value(value).context("an unexpected answer"),
                    Err(Failure::Busy(pause, _)) if attempt < MAX_ATTEMPTS && pause <= MAX_PAUSE => {
                        tokio::time::sleep(pause).await;
                    }
                    Err(Failure::Busy(_, message)) => {
                        bail!("the server is busy and stayed so ({message}): try again later")
                    }
                    Err(Failure::Final(error)) => return Err(error),
                }
            }
            bail!("the server was not asked")
        })
    }

    async fn post(&self, question: &Value, field: &str) -> Result<Value, Failure> {
        let sent = self.http.post(&self.endpoint).header(AUTHORIZATION, self.authorization.clone());
        let response = sent.json(question).send().await.map_err(unreachable)?;
        let (status, pause) = (response.status(), pause(response.headers()));
        let body = read(response).await?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| Failure::Final(anyhow!("the answer ({status}) is not GraphQL")))?;
        if let Some(message) = answer.message {
            let is_busy = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
            return Err(match is_busy {
                true => Failure::Busy(pause.unwrap_or(PAUSE), message),
                false => Failure::Final(anyhow!(message)),
            });
        }
        if let Some(GraphqlError { message, extensions: Extensions { code, retry_after_ms } }) =
            answer.errors.into_iter().next()
        {
            return Err(match code.as_deref() {
                Some("BUSY") => Failure::Busy(retry_after_ms.map_or(PAUSE, Duration::from_millis), message),
                _ => Failure::Final(anyhow!(message)),
            });
        }
        let value = answer.data.and_then(|mut data| data.get_mut(field).map(Value::take));
        value.ok_or_else(|| Failure::Final(anyhow!("the answer ({status}) holds no data")))
    }
}

async fn read(mut response: Response) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        let is_too_long = body.len().saturating_add(chunk.len()) > MAX_ANSWER_BYTES;
        ensure!(!is_too_long, "the answer has more than {MAX_ANSWER_BYTES} bytes");
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn pause(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// The deepest cause says the most: "connection refused", "invalid peer certificate".
fn unreachable(error: reqwest::Error) -> anyhow::Error {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    anyhow!(cause.to_string())
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
    #[serde(default)]
    extensions: Extensions,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Extensions {
    code: Option<String>,
    retry_after_ms: Option<u64>,
}

//! The connection to a server: HTTP, the pin, tokens, GraphQL, and errors in words.

use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use reqwest::{Method, StatusCode, header};
use rustls::ClientConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use writ_tls::{Pin, PinError, Stranger};

use crate::client_error::ClientError;
use crate::credentials::{Server, Token};
use crate::failure::{advised, usage};
use crate::subscription::Subscription;

/// Largest answer that is read, except where a caller allows more.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// How long a server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a busy server is asked again.
const MAX_ATTEMPTS: u32 = 5;

/// Longest that a busy server may make us wait before the next attempt.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// A connection to one server.
pub struct Client {
    http: reqwest::Client,
    runtime: Runtime,
    url: String,
    token: Option<Token>,
    tls: ClientConfig,
    pinned: Option<(Pin, Stranger)>,
}

/// A subscription on a connection.
pub struct Live<'a> {
    runtime: &'a Runtime,
    subscription: Subscription,
}

impl Live<'_> {
    /// Waits for the next thing that happens.
    pub fn next(&mut self) -> Result<Value> {
        self.runtime.block_on(self.subscription.next())
    }
}

/// An answer with the status that the caller looks at itself.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Vec<u8>,
    retry_after: Option<Duration>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
    message: String,
}

#[derive(Deserialize)]
struct GraphqlAnswer {
    data: Option<Value>,
    #[serde(default)]
    errors: Vec<GraphqlError>,
}

#[derive(Deserialize)]
struct GraphqlError {
    message: String,
    #[serde(default)]
    extensions: Option<Extensions>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Extensions {
    code: Option<String>,
    reason: Option<String>,
    retry_after_ms: Option<u64>,
}

impl GraphqlError {
    /// The most telling word: why a command was rejected, otherwise the kind of error.
    fn word(&self) -> Option<&str> {
        let extensions = self.extensions.as_ref()?;
        extensions.reason.as_deref().or(extensions.code.as_deref())
    }

    fn is(&self, code: &str) -> bool {
        self.extensions.as_ref().and_then(|e| e.code.as_deref()) == Some(code)
    }
}

impl Client {
    /// A connection without a token: to sign in, or for what is public.
    pub fn anonymous(url: &str, server: &Server) -> Result<Self> {
        check_transport(url, server.insecure_http)?;
        let runtime =
            Builder::new_current_thread().enable_all().build().context("cannot start the network runtime")?;
        let mut pinned = None;
        let tls = match &server.pin {
            Some(text) => {
                let misspelt =
                    |problem: PinError| usage(problem.to_string(), "copy the pin as `writ init` showed it");
                let pin: Pin = text.parse().map_err(misspelt)?;
                let (config, stranger) = writ_tls::by_pin(pin).context("cannot set up TLS")?;
                pinned = Some((pin, stranger));
                config
            }
            None => writ_tls::by_authority().context("cannot set up TLS")?,
        };
        let http = reqwest::Client::builder()
            .user_agent(concat!("writ/", env!("CARGO_PKG_VERSION")))
            .timeout(ANSWER_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(tls.clone())
            .build()
            .context("cannot set up HTTP")?;
        Ok(Self { http, runtime, url: url.to_owned(), token: None, tls, pinned })
    }

    /// A connection with the token of the last sign-in.
    pub fn signed_in(url: &str, server: &Server) -> Result<Self> {
        let Some(token) = server.live_token(Timestamp::now()) else {
            let what = match (&server.token, server.expires_at) {
                (Some(_), Some(end)) => {
                    format!("the sign-in at {url} ended at {}", crate::output::local_time(end))
                }
                _ => format!("nobody is signed in at {url}"),
            };
            let admin = server.admin.as_deref().unwrap_or("adm_…");
            return Err(advised(what, format!("run `writ login --server {url} --admin {admin}`")));
        };
        let token = token.clone();
        let mut client = Self::anonymous(url, server)?;
        client.token = Some(token);
        Ok(client)
    }

    /// Runs a GraphQL operation and reads its data.
    pub fn graphql<T: DeserializeOwned>(&self, query: &str, variables: Value) -> Result<T> {
        let data = self.graphql_raw(query, variables)?;
        serde_json::from_value(data)
            .map_err(|error| self.nonsense(format!("other data than expected ({error})")))
    }

    /// Runs a GraphQL operation and returns its data as it came.
    pub fn graphql_raw(&self, query: &str, variables: Value) -> Result<Value> {
        let request = json!({ "query": query, "variables": variables });
        let mut attempt = 1;
        loop {
            let answer = self.ask(Method::POST, "/graphql", Some(&request))?;
            self.check(&answer)?;
            let GraphqlAnswer { data, errors } = serde_json::from_slice(&answer.body)
                .map_err(|error| self.nonsense(format!("something that is no GraphQL answer ({error})")))?;
            let pause = errors
                .iter()
                .filter(|error| error.is("BUSY"))
                .find_map(|error| error.extensions.as_ref()?.retry_after_ms.map(Duration::from_millis));
            match pause {
                Some(pause) if attempt < MAX_ATTEMPTS && pause <= MAX_PAUSE => std::thread::sleep(pause),
                _ if errors.is_empty() => {
                    return data.ok_or_else(|| self.nonsense("neither data nor errors".to_owned()));
                }
                _ => return Err(self.graphql_refusal(&errors).into()),
            }
            attempt += 1;
        }
    }

    fn graphql_refusal(&self, errors: &[GraphqlError]) -> ClientError {
        let url = self.url.clone();
        let message = errors.iter().map(|error| error.message.as_str()).collect::<Vec<_>>().join("; ");
        if errors.iter().any(|error| error.is("UNAUTHENTICATED")) {
            return ClientError::NotSignedIn { url, message };
        }
        if errors.iter().any(|error| error.is("BUSY")) {
            return ClientError::Busy { url, message };
        }
        let code = errors.iter().find_map(GraphqlError::word).unwrap_or_default().to_owned();
        ClientError::Refused { code, message }
    }

    /// Begins a subscription.
    pub fn subscribe(&self, document: &str, variables: Value) -> Result<Live<'_>> {
        let request = json!({ "query": document, "variables": variables });
        let token = self.token.as_ref().map(Token::expose).unwrap_or_default();
        let begun = self.runtime.block_on(Subscription::begin(&self.url, &self.tls, token, &request))?;
        Ok(Live { runtime: &self.runtime, subscription: begun })
    }

    /// Posts JSON and reads JSON.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let answer = self.ask(Method::POST, path, Some(body))?;
        self.check(&answer)?;
        serde_json::from_slice(&answer.body)
            .map_err(|error| self.nonsense(format!("no usable JSON ({error})")))
    }

    /// Gets a file of the log. `None` if there is none.
    pub fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let answer = self.ask(Method::GET, path, None)?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.check(&answer)?;
        Ok(Some(answer.body))
    }

    /// Gets text that has to be there.
    pub fn get_text(&self, path: &str) -> Result<String> {
        let body = self.get(path)?.ok_or_else(|| self.nonsense(format!("nothing at {path}")))?;
        String::from_utf8(body).map_err(|_| self.nonsense(format!("something that is no text at {path}")))
    }

    /// Sends a request, again while the server is busy. Every command carries an identifier of its own, so a repeat changes nothing.
    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let mut attempt = 1;
        loop {
            let answer = self.runtime.block_on(self.send(&method, path, body))?;
            let is_busy = answer.status == StatusCode::SERVICE_UNAVAILABLE
                || answer.status == StatusCode::TOO_MANY_REQUESTS;
            let pause = answer.retry_after.unwrap_or(Duration::from_secs(1));
            if !is_busy || attempt == MAX_ATTEMPTS || pause > MAX_PAUSE {
                return Ok(answer);
            }
            attempt += 1;
            std::thread::sleep(pause);
        }
    }

    async fn send(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            let mut value = header::HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                .context("the stored token cannot be sent; sign in again")?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| value.parse().ok()).map(Duration::from_secs);
        let mut answer = Answer { status: response.status(), body: Vec::new(), retry_after };
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if answer.body.len().saturating_add(chunk.len()) > MAX_ANSWER_BYTES {
                return Err(self.nonsense(format!("more than {MAX_ANSWER_BYTES} bytes")));
            }
            answer.body.extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    /// Turns a status that is no success into an error with the server's own words.
    fn check(&self, answer: &Answer) -> Result<()> {
        if answer.status.is_success() {
            return Ok(());
        }
        let url = self.url.clone();
        let (code, message) = match serde_json::from_slice::<ErrorBody>(&answer.body) {
            Ok(body) => (body.error, body.message),
            // GraphQL refusals may come with a status of their own and errors in the body.
            Err(_) => match serde_json::from_slice::<GraphqlAnswer>(&answer.body) {
                Ok(GraphqlAnswer { errors, .. }) if !errors.is_empty() => {
                    return Err(self.graphql_refusal(&errors).into());
                }
                _ => return Err(self.nonsense(format!("the status {}", answer.status))),
            },
        };
        Err(match answer.status {
            StatusCode::UNAUTHORIZED => ClientError::NotSignedIn { url, message },
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                ClientError::Busy { url, message }
            }
            _ => ClientError::Refused { code, message },
        }
        .into())
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        let url = self.url.clone();
        if let Some((pinned, stranger)) = &self.pinned
            && let Some(shown) = stranger.seen()
        {
            return ClientError::WrongPin { url, shown, pinned: *pinned }.into();
        }
        ClientError::Unreachable { url, problem: innermost(error) }.into()
    }

    fn nonsense(&self, problem: String) -> anyhow::Error {
        ClientError::Nonsense { url: self.url.clone(), problem }.into()
    }
}

/// The deepest cause says the most: "connection refused", "invalid peer certificate".
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Tokens never travel in the clear, except to this machine or where that was asked for by name.
fn check_transport(url: &str, insecure_http: bool) -> Result<()> {
    if insecure_http || writ_tls::is_private(url) {
        return Ok(());
    }
    Err(advised(
        format!(
            "{url} is plain HTTP to another machine: whoever is in between could read the secret and the token"
        ),
        "use https://, or sign in with --insecure-http if the way there is protected otherwise",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_to_another_machine_must_be_asked_for_by_name() {
        for url in ["https://a", "http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"] {
            assert!(check_transport(url, false).is_ok(), "{url}");
        }
        assert!(check_transport("http://192.0.2.1", false).is_err());
        assert!(check_transport("http://192.0.2.1", true).is_ok());
    }

    #[test]
    fn an_ended_sign_in_says_so_before_anything_is_sent() {
        let server = Server {
            token: Some(Token::new("t".to_owned())),
            expires_at: Some("2020-01-01T00:00:00Z".parse().unwrap()),
            ..Server::default()
        };
        let error = Client::signed_in("https://192.0.2.1", &server).err().unwrap().to_string();
        assert!(error.contains("ended at 20"), "{error}");
    }
}

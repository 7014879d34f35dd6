//! `writ login`: signing in.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use writ_schema::AdminId;
use writ_tls::Pin;

use super::verify::served_key;
use crate::client::Client;
use crate::credentials::Token;
use crate::failure::usage;
use crate::output::local_time;
use crate::{App, Verdict, credentials, secret};

/// Sign in at a server
///
/// The secret comes from --secret-file, from the variable WRIT_SECRET, or is asked for. It is exchanged for a token that ends by
/// itself; the token is stored in a file that only you can read, the secret is not. After `writ init` on the same machine,
/// server, administrator and pin are known already.
#[derive(Args)]
#[command(after_help = "\
Examples:
  writ login
  writ login --server https://192.0.2.1:8443 --admin adm_… --pin h3Xm…
  writ login --secret-file /run/secrets/writ")]
pub struct Arguments {
    /// Who signs in; by default the administrator of the last sign-in.
    #[arg(long, value_name = "ID")]
    admin: Option<AdminId>,
    /// File that holds the secret; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// SHA-256 of the server's certificate (base64url), where no public authority vouches for it; `writ init` shows it.
    #[arg(long, value_name = "SHA256", allow_hyphen_values = true)]
    pin: Option<Pin>,
    /// Allow plain HTTP to another machine. Whoever is in between can read the secret.
    #[arg(long)]
    insecure_http: bool,
}

#[derive(Deserialize)]
struct Answer {
    token: String,
    expires_at: Timestamp,
    role: String,
}

/// Signs in and remembers the token.
pub fn run(arguments: &Arguments, app: &App) -> Result<Verdict> {
    let (url, mut server) = credentials::chosen(app.server.as_deref())?;
    if let Some(pin) = &arguments.pin {
        server.pin = Some(pin.to_string());
    }
    server.insecure_http |= arguments.insecure_http;
    if let Some(admin) = &arguments.admin {
        server.admin = Some(admin.to_string());
    }
    let admin = server.admin.clone().ok_or_else(|| {
        usage(
            format!("who signs in at {url}?"),
            "give --admin adm_…, as it was shown when the administrator was made",
        )
    })?;
    let client = Client::anonymous(&url, &server)?;
    let secret = secret::sign_in_secret(arguments.secret_file.as_deref())?;
    let answer: Answer = client.post("/api/v1/login", &json!({ "admin": admin, "secret": secret }))?;
    let Answer { token, expires_at, role } = answer;
    let is_new_key = server.log_key.is_none();
    // The first time, the server is believed; whatever is verified from then on is verified under this key.
    let log_key = match server.log_key {
        Some(kept) => Some(kept),
        None => served_key(&client).ok().map(|key| key.to_string()),
    };
    credentials::update(&url, |all, kept| {
        all.current = Some(url.clone());
        kept.pin = server.pin;
        kept.insecure_http = server.insecure_http;
        kept.admin = Some(admin.clone());
        kept.role = Some(role.clone());
        kept.token = Some(Token::new(token));
        kept.expires_at = Some(expires_at);
        kept.log_key = log_key.clone();
    })?;
    let mut text = format!("{admin} is signed in at {url} as {role}, until {}.", local_time(expires_at));
    if let Some(key) = log_key.as_ref().filter(|_| is_new_key) {
        text.push_str(&format!(
            "\nThe log's key is taken from the server, for this first time; compare it with the one that the operator published:\n  {key}"
        ));
    }
    let value =
        json!({ "server": url, "admin": admin, "role": role, "expiresAt": expires_at, "logKey": log_key });
    app.out.show(&text, &value)?;
    Ok(Verdict::Good)
}

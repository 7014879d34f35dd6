use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::server::Server;
use super::{vkey, writ};

pub const ADMIN: &str = "adm_aeaqcaibaeaqcaibaeaqcaibae";

pub fn token() -> (u16, Vec<u8>) {
    let answer = json!({ "token": "writ-token-abc", "expires_at": "2999-01-01T00:00:00Z", "role": "owner" });
    (200, answer.to_string().into_bytes())
}

#[test]
fn a_sign_in_stores_the_token_for_its_owner_only_and_uses_it() {
    let folder = tempfile::tempdir().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = seen.clone();
    let server = Server::start(Arc::new(move |path, request| {
        requests.lock().unwrap().push(request.to_owned());
        match path {
            "/api/v1/login" => token(),
            "/log/vkey" => (200, vkey().into_bytes()),
            _ => (200, json!({ "data": { "network": { "name": "example" } } }).to_string().into_bytes()),
        }
    }));
    let ran = writ(folder.path(), ["login", "--server", &server.url, "--admin", ADMIN, "--pin", &server.pin]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(!ran.stdout.contains("writ-token-abc") && !ran.stdout.contains("secret"), "{}", ran.stdout);
    let file = folder.path().join("credentials.toml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = fs::read_to_string(&file).unwrap();
    assert!(kept.contains("writ-token-abc") && !kept.contains("writ-secret-of-the-test"), "{kept}");
    assert!(
        kept.contains(&vkey()) && ran.stdout.contains(&vkey()),
        "the log's key of the first sign-in: {}",
        ran.stdout
    );
    let ran = writ(folder.path(), ["query", "{ network { name } }", "--json"]);
    assert_eq!(ran.json(), json!({ "network": { "name": "example" } }), "{}", ran.stderr);
    let seen = seen.lock().unwrap();
    assert!(
        seen[0].contains("writ-secret-of-the-test") && seen[2].contains("Bearer writ-token-abc"),
        "{seen:?}"
    );
}

#[test]
fn a_server_with_another_certificate_is_refused_before_the_secret_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let seen = Arc::new(Mutex::new(0));
    let requests = seen.clone();
    let server = Server::start(Arc::new(move |_, _| {
        *requests.lock().unwrap() += 1;
        token()
    }));
    let other = "A".repeat(42) + "A";
    let ran = writ(folder.path(), ["login", "--server", &server.url, "--admin", ADMIN, "--pin", &other]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("is not the server that is pinned") && ran.stderr.contains(&server.pin),
        "{}",
        ran.stderr
    );
    assert_eq!(*seen.lock().unwrap(), 0);
    assert!(!folder.path().join("credentials.toml").exists());
}

#[test]
fn a_self_made_certificate_without_a_pin_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(Arc::new(|_, _| token()));
    let ran = writ(folder.path(), ["login", "--server", &server.url, "--admin", ADMIN]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("--pin"), "{}", ran.stderr);
}

#[test]
fn a_refused_sign_in_says_what_the_server_said() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(Arc::new(|_, _| {
        let body = json!({ "error": "login_failed", "message": "the administrator or the secret is wrong" });
        (401, body.to_string().into_bytes())
    }));
    let ran = writ(folder.path(), ["login", "--server", &server.url, "--admin", ADMIN, "--pin", &server.pin]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("the administrator or the secret is wrong"), "{}", ran.stderr);
}

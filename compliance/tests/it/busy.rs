//! A server that is busy: asked again as often and as late as it may be, and no more. A real one cannot be made to be
//! busy at will, so a socket that knows its answers by heart stands in.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use writ_compliance::catalogue;
use writ_compliance::evidence::Period;
use writ_compliance::server::Server;
use writ_ledger::SigningKey;

const NO: &str =
    r#"{ "data": null, "errors": [{ "message": "not for you", "extensions": { "code": "FORBIDDEN" } }] }"#;

fn busy(millis: u64) -> (&'static str, String) {
    let body = format!(
        r#"{{ "data": null, "errors": [{{ "message": "too much", "extensions": {{ "code": "BUSY", "retryAfterMs": {millis} }} }}] }}"#
    );
    ("200 OK", body)
}

/// Gives these answers, one to each question, and ends.
fn serve(answers: Vec<(&'static str, String)>) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            reader.read_exact(&mut vec![0; length]).unwrap();
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).unwrap();
        }
    });
    (url, serving)
}

/// What the report's maker says in the end.
fn problem(answers: Vec<(&'static str, String)>) -> String {
    let (url, serving) = serve(answers);
    let key = SigningKey::from_seed("writ.example/log", [7; 32]).unwrap().verifier_key().to_string();
    let server = Server::new(&url, None, "token", &key).unwrap();
    let period =
        Period { from: "2026-03-01T00:00:00Z".parse().unwrap(), to: "2026-04-01T00:00:00Z".parse().unwrap() };
    let problem = server.fetch(&catalogue::named("nis2").unwrap(), period).err().unwrap().to_string();
    serving.join().unwrap();
    problem
}

#[test]
fn a_busy_server_is_asked_again_after_the_time_that_it_names() {
    let refused =
        ("503 Service Unavailable\r\nRetry-After: 1", r#"{ "error": "busy", "message": "wait" }"#.to_owned());
    let started = Instant::now();
    let problem = problem(vec![busy(300), refused, ("200 OK", NO.to_owned())]);
    assert!(problem.contains("not for you"), "{problem}");
    assert!(started.elapsed() >= Duration::from_millis(1300), "{:?}", started.elapsed());
}

#[test]
fn a_server_that_stays_busy_is_given_up() {
    let problem = problem(vec![busy(1); 6]);
    assert!(problem.contains("stayed so (too much)"), "{problem}");
}

#[test]
fn a_server_that_wants_to_be_left_alone_for_long_is_left_alone() {
    let problem = problem(vec![busy(3_600_000)]);
    assert!(problem.contains("try again later"), "{problem}");
}

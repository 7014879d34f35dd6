//! What a collector receives.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use writ_telemetry::{Config, InitError, LogFormat, current_traceparent, init, span_with_parent};

/// One runtime thread, as an actix worker has: the place where a careless flush waits for itself.
#[tokio::test(flavor = "current_thread")]
async fn spans_linked_by_a_traceparent_reach_the_collector_as_one_trace() {
    let (endpoint, posts) = collector();
    let config = Config {
        service_name: "writ-export-test",
        service_version: "1.2.3",
        otlp_endpoint: Some(endpoint),
        log_format: LogFormat::Text,
        filter: "warn".into(),
        recent: None,
    };
    let telemetry = init(config.clone()).unwrap();
    assert!(matches!(init(config), Err(InitError::AlreadySet(_))));

    let traceparent = tracing::info_span!("agent asks").in_scope(current_traceparent).unwrap();
    let decision = tracing::info_span!("control decides");
    span_with_parent(&decision, &traceparent).unwrap();
    let passed_on = decision.in_scope(current_traceparent).unwrap();
    drop(decision);
    tracing::debug_span!("a detail").in_scope(|| {});
    assert_eq!(traceparent[..36], passed_on[..36], "the child passes the same trace on");

    tokio::time::timeout(Duration::from_secs(20), telemetry.shutdown()).await.expect("shutdown ends");

    let post = posts.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(post.path, "/v1/traces");
    assert_eq!(post.content_type, "application/x-protobuf");
    for text in ["writ-export-test", "1.2.3", "agent asks", "control decides"] {
        assert_eq!(occurrences(&post.body, text.as_bytes()), 1, "{text}");
    }
    assert_eq!(occurrences(&post.body, b"a detail"), 0);
    // Field 1 of a span, 16 bytes: the trace. Field 2: the span. Field 4: its parent.
    let trace = [&[0x0A, 16][..], &unhex(&traceparent[3..35])].concat();
    assert_eq!(occurrences(&post.body, &trace), 2, "both spans are of one trace");
    let (parent, child) = (unhex(&traceparent[36..52]), unhex(&passed_on[36..52]));
    assert_eq!(occurrences(&post.body, &[&[0x12, 8][..], &parent].concat()), 1);
    assert_eq!(occurrences(&post.body, &[&[0x12, 8][..], &child].concat()), 1);
    assert_eq!(occurrences(&post.body, &[&[0x22, 8][..], &parent].concat()), 1, "one is the other's parent");
}

struct Post {
    path: String,
    content_type: String,
    body: Vec<u8>,
}

/// Answers every request on loopback, until the test's process ends.
fn collector() -> (String, Receiver<Post>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, posts) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let post = read_post(stream.unwrap());
            if sender.send(post).is_err() {
                return;
            }
        }
    });
    (endpoint, posts)
}

fn read_post(stream: TcpStream) -> Post {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut post = Post {
        path: line.strip_prefix("POST ").and_then(|l| l.split(' ').next()).unwrap().to_owned(),
        content_type: String::new(),
        body: Vec::new(),
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-type" => post.content_type = value.trim().to_owned(),
            "content-length" => post.body = vec![0; value.trim().parse().unwrap()],
            _ => {}
        }
    }
    reader.read_exact(&mut post.body).unwrap();
    (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    post
}

fn occurrences(body: &[u8], part: &[u8]) -> usize {
    body.windows(part.len()).filter(|window| *window == part).count()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

//! A collector of traces: takes OTLP over HTTP and remembers spans.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use writ_tests::lab::Host;

/// A span as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub service: String,
    pub name: String,
    pub trace: Vec<u8>,
    pub id: Vec<u8>,
    pub parent: Vec<u8>,
}

/// Listens for as long as its host is there.
pub(crate) struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    pub fn start(host: &Host, port: u16) -> Self {
        let listener = host.listen(port).unwrap();
        let spans = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&spans);
        std::thread::spawn(move || accept(&listener, &seen));
        Self { spans }
    }

    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }
}

fn accept(listener: &TcpListener, spans: &Arc<Mutex<Vec<Span>>>) {
    for stream in listener.incoming().flatten() {
        let spans = Arc::clone(spans);
        std::thread::spawn(move || {
            let mut stream = stream;
            while let Some(body) = read_request(&mut stream) {
                let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
                spans.lock().unwrap().extend(read_spans(request));
                if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
                    return;
                }
            }
        });
    }
}

fn read_spans(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in request.resource_spans {
        let service = resource.resource.iter().flat_map(|resource| &resource.attributes);
        let service = service.filter(|pair| pair.key == "service.name").find_map(|pair| pair.value.as_ref());
        let service = format!("{:?}", service.and_then(|value| value.value.as_ref()));
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Span {
                service: service.clone(),
                name: span.name,
                trace: span.trace_id,
                id: span.span_id,
                parent: span.parent_span_id,
            });
        }
    }
    spans
}

/// The body of the next request; nothing when there is none.
fn read_request(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    let mut body = vec![0; length.trim().parse().ok()?];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}

//! The W3C `traceparent`, by which a trace crosses processes.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Length of a `traceparent` of version 00, the only one there is.
const TRACEPARENT_CHARS: usize = 55;

/// A text that is no `traceparent`. It came from outside and is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a traceparent of version 00: expected `00-<32 hex digits>-<16 hex digits>-<2 hex digits>` in lower case"
)]
pub struct InvalidTraceparent;

/// The `traceparent` of the current span, to send along with a message; none when the span is not traced.
pub fn current_traceparent() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| {
        let flags = span.trace_flags() & TraceFlags::SAMPLED;
        format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), flags.to_u8())
    })
}

/// Makes the span a child of the span that this `traceparent` names. Call it before the span is entered for the first time;
/// later, and when there is no tracing, it does nothing.
pub fn span_with_parent(span: &Span, traceparent: &str) -> Result<(), InvalidTraceparent> {
    let parent = parse(traceparent)?;
    // Fails when this span is not exported or has begun already: then it is no part of the trace, which is no harm.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    Ok(())
}

fn parse(text: &str) -> Result<SpanContext, InvalidTraceparent> {
    let is_lower_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() != TRACEPARENT_CHARS {
        return Err(InvalidTraceparent);
    }
    let mut parts = text.split('-');
    let (Some("00"), Some(trace), Some(span), Some(flags), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(InvalidTraceparent);
    };
    if (trace.len(), span.len(), flags.len()) != (32, 16, 2)
        || ![trace, span, flags].into_iter().all(is_lower_hex)
    {
        return Err(InvalidTraceparent);
    }
    let trace = TraceId::from_hex(trace).map_err(|_| InvalidTraceparent)?;
    let span = SpanId::from_hex(span).map_err(|_| InvalidTraceparent)?;
    let flags = u8::from_str_radix(flags, 16).map_err(|_| InvalidTraceparent)?;
    let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
    let context = SpanContext::new(trace, span, flags, true, TraceState::default());
    if context.is_valid() { Ok(context) } else { Err(InvalidTraceparent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_names_trace_span_and_sampling() {
        let context = parse(GOOD).unwrap();
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
        assert!(context.is_sampled() && context.is_remote());
        assert!(!parse(&GOOD.replace("-01", "-00")).unwrap().is_sampled());
    }

    #[test]
    fn anything_else_is_refused() {
        let long = "0".repeat(1 << 20);
        for bad in [
            "",
            &long,
            &GOOD[..54],
            &format!("{GOOD}0"),
            &GOOD.replacen("00", "01", 1),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.to_uppercase(),
            &GOOD.replace('-', "_"),
            &GOOD.replace("4b", "+b"),
            &GOOD.replace("4bf9", "4\u{e9}9"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
        ] {
            assert_eq!(parse(bad), Err(InvalidTraceparent), "{}", &bad[..bad.len().min(60)]);
        }
    }

    #[test]
    fn without_tracing_there_is_no_traceparent_and_a_parent_does_nothing() {
        assert_eq!(current_traceparent(), None);
        assert_eq!(span_with_parent(&Span::none(), GOOD), Ok(()));
    }
}

//! Log lines on standard error.

use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::InitError;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// boringtun reports every expired timer of every idle peer, up to the level of an error, and the engine reports what matters itself.
/// A filter that names the target overrides this.
const QUIET: &str = "boringtun::noise::timers=off";

pub(crate) fn layer<S>(
    format: LogFormat,
    directives: &str,
) -> Result<Box<dyn Layer<S> + Send + Sync>, InitError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = filter(directives)?;
    let lines = fmt::layer().with_writer(io::stderr);
    Ok(match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    })
}

pub(crate) fn filter(directives: &str) -> Result<EnvFilter, InitError> {
    let directives = if directives.trim().is_empty() { "info" } else { directives.trim() };
    EnvFilter::builder()
        .parse(format!("{QUIET},{directives}"))
        .map_err(|source| InitError::Filter { filter: directives.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(directives: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter(directives).unwrap()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "boringtun::noise::timers", "timer noise");
            tracing::error!(target: "boringtun::noise", "handshake trouble");
            tracing::info!("a fact");
            tracing::debug!("a detail");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn timers_are_quiet_and_their_neighbours_are_not() {
        let text = logged("");
        assert!(text.contains("handshake trouble") && text.contains("a fact"), "{text}");
        assert!(!text.contains("timer noise") && !text.contains("a detail"), "{text}");
        assert!(!logged("trace").contains("timer noise"));
    }

    #[test]
    fn timers_are_heard_when_asked_for_by_name() {
        assert!(logged("info,boringtun::noise::timers=error").contains("timer noise"));
    }

    #[test]
    fn a_filter_that_is_none_is_refused_by_name() {
        let error = filter("info,=nonsense=").unwrap_err().to_string();
        assert!(error.contains("`info,=nonsense=`"), "{error}");
    }
}

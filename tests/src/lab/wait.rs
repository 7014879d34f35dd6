//! Waiting for something to become true, with a message that helps when it does not.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Between two looks. Short against what people notice, long against what a look costs.
const PAUSE: Duration = Duration::from_millis(15);

/// Something did not happen in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: not within {limit:?}; last seen: {last}")]
pub struct Timeout {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub limit: Duration,
    /// Why it was not so at the last look.
    pub last: String,
}

/// Looks again and again until `look` gives a value, and returns it. `look` says why not yet in its error, and the
/// last such reason is part of the failure.
///
/// # Errors
/// [`Timeout`] when `limit` has passed. `look` is called at least once.
pub fn wait_for<T, E: Display>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, E>,
) -> Result<T, Timeout> {
    let start = Instant::now();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(reason) if start.elapsed() >= limit => {
                return Err(Timeout { what: what.to_owned(), limit, last: reason.to_string() });
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Looks again and again until `look` says yes, and returns how long it took.
///
/// # Errors
/// [`Timeout`] when `limit` has passed. `look` is called at least once.
pub fn wait_until(limit: Duration, what: &str, mut look: impl FnMut() -> bool) -> Result<Duration, Timeout> {
    let start = Instant::now();
    wait_for(limit, what, || if look() { Ok(()) } else { Err("it is not so") })?;
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_when_it_is_so() {
        let mut looks = 0;
        let value = wait_for(Duration::from_secs(5), "three looks", || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(format!("look {looks}")) }
        });
        assert_eq!(value, Ok(3));
    }

    #[test]
    fn a_timeout_says_what_was_waited_for_and_what_was_seen_last() {
        let error = wait_for(Duration::ZERO, "the door opens", || Err::<(), _>("it is locked")).unwrap_err();
        assert_eq!(error.to_string(), "the door opens: not within 0ns; last seen: it is locked");
    }
}

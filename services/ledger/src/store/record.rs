//! What bytes may be a record.

use serde::de::IgnoredAny;

use super::json::check_object;
use crate::tile::MAX_RECORD_BYTES;

/// Why bytes cannot be a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordProblem {
    /// It does not fit an entry bundle.
    #[error("it has {0} bytes; a record has at most {MAX_RECORD_BYTES}")]
    TooLarge(usize),
    /// It is not text.
    #[error("byte {0} is not UTF-8")]
    NotUtf8(usize),
    /// It holds a raw line break or NUL.
    #[error("byte {0} is a raw line break or NUL")]
    LineBreakOrNul(usize),
    /// It does not begin with `{` and end with `}`.
    #[error("it is not a JSON object")]
    NotAnObject,
    /// It is not JSON.
    #[error("it is not valid JSON at byte {0}")]
    NotJson(usize),
}

/// Checks that bytes can be a record: one JSON object on one line, at most [`MAX_RECORD_BYTES`].
///
/// # Errors
/// When they cannot.
pub fn check_record(record: &[u8]) -> Result<(), RecordProblem> {
    check_line(record)?;
    check_text(record)
}

/// The quick half of the check: that it can be written as one line, and be told from what a crash may leave of one.
pub(super) fn check_line(record: &[u8]) -> Result<(), RecordProblem> {
    if record.len() > MAX_RECORD_BYTES {
        return Err(RecordProblem::TooLarge(record.len()));
    }
    if let Some(at) = memchr::memchr2(b'\n', 0, record) {
        return Err(RecordProblem::LineBreakOrNul(at));
    }
    if record.first() != Some(&b'{') || record.last() != Some(&b'}') {
        return Err(RecordProblem::NotAnObject);
    }
    Ok(())
}

/// The other half: that such a line is JSON.
pub(super) fn check_text(record: &[u8]) -> Result<(), RecordProblem> {
    let text = std::str::from_utf8(record).map_err(|error| RecordProblem::NotUtf8(error.valid_up_to()))?;
    // One pass that the compiler makes wide.
    let has_control = record.iter().fold(false, |found, byte| found | (*byte < b' '));
    if !has_control {
        return check_object(record).map_err(RecordProblem::NotJson);
    }
    serde_json::from_str::<IgnoredAny>(text)
        .map(|_| ())
        .map_err(|error| RecordProblem::NotJson(error.column().saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_json_object_on_one_line_is_a_record() {
        assert_eq!(check_record(br#"{"a":"\u0000\n"}"#), Ok(()));
        let full = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_RECORD_BYTES - 8));
        assert_eq!(check_record(full.as_bytes()), Ok(()));
        let over = full.replace("\"a\"", "\"aa\"");
        assert_eq!(check_record(over.as_bytes()), Err(RecordProblem::TooLarge(MAX_RECORD_BYTES + 1)));
        assert_eq!(check_record(b"{\"a\":\n1}"), Err(RecordProblem::LineBreakOrNul(5)));
        assert_eq!(check_record(b"{\"a\":\0}"), Err(RecordProblem::LineBreakOrNul(5)));
        assert_eq!(check_record(b"{\"a\":\"\xff\"}"), Err(RecordProblem::NotUtf8(6)));
        for bad in ["", "[]", "1", " {}", "{} ", "null"] {
            assert_eq!(check_record(bad.as_bytes()), Err(RecordProblem::NotAnObject), "{bad}");
        }
        for bad in ["{}{}", "{a:1}", "{\"a\":1,}"] {
            assert!(matches!(check_record(bad.as_bytes()), Err(RecordProblem::NotJson(_))), "{bad}");
        }
    }
}

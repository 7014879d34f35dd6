//! Checks of single values.

use crate::core::rejection::Rejection;

/// Longest DNS label (RFC 1035).
const MAX_LABEL_CHARS: usize = 63;

pub(super) fn is_dns_label(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (1..=MAX_LABEL_CHARS).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A line of text for people: not empty, bounded, without control characters.
pub(super) fn check_line(field: &'static str, text: &str, max_chars: usize) -> Result<(), Rejection> {
    let is_line = !text.trim().is_empty() && !text.chars().any(char::is_control);
    if is_line && text.chars().count() <= max_chars {
        return Ok(());
    }
    Err(invalid(field, format!("expected a line of 1 to {max_chars} characters")))
}

/// A SHA-256 in hex.
pub(super) fn check_digest(field: &'static str, text: &str) -> Result<(), Rejection> {
    if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(());
    }
    Err(invalid(field, "expected a SHA-256 as 64 hex digits in lower case".to_owned()))
}

pub(super) fn invalid(field: &'static str, message: String) -> Rejection {
    Rejection::Invalid { field, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_labels_are_told_from_other_texts() {
        for good in ["a", "web-1", "Printer", &"x".repeat(63)] {
            assert!(is_dns_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a.b", "a b", "ä", &"x".repeat(64)] {
            assert!(!is_dns_label(bad), "{bad}");
        }
    }

    #[test]
    fn a_line_has_text_and_no_control_characters() {
        assert!(check_line("name", "Dana Müller", 20).is_ok());
        for bad in ["", "  ", "a\nb", "abcdef"] {
            assert!(check_line("name", bad, 5).is_err(), "{bad}");
        }
    }
}

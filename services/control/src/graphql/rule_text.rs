//! The words of a rule, out of a policy's text.

use serde_json::Value;

/// The rule at a place such as `acls[0]`, as plain JSON on one line.
pub(super) fn rule_text(policy: &str, place: &str) -> Option<String> {
    let (section, rest) = place.split_once('[')?;
    let index: usize = rest.strip_suffix(']')?.parse().ok()?;
    let document: Value = serde_json::from_str(&to_json(policy)).ok()?;
    document.get(section)?.get(index).map(ToString::to_string)
}

/// HuJSON as JSON: without comments and trailing commas.
fn to_json(text: &str) -> String {
    let mut json = String::with_capacity(text.len());
    // A comma is written only when something follows it that is not the end of its list.
    let mut comma = false;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' => comment(rest),
            '"' => string(rest),
            _ => first.len_utf8(),
        };
        let (token, tail) = rest.split_at(length.min(rest.len()));
        rest = tail;
        if first == '/' || first.is_whitespace() {
            continue;
        }
        if comma && first != ']' && first != '}' {
            json.push(',');
        }
        comma = first == ',';
        if !comma {
            json.push_str(token);
        }
    }
    json
}

fn comment(text: &str) -> usize {
    if text.starts_with("/*") {
        return text.get(2..).and_then(|tail| tail.find("*/")).map_or(text.len(), |at| at + 4);
    }
    text.find('\n').unwrap_or(text.len())
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::rule_text;

    #[test]
    fn a_rule_is_found_between_comments_and_trailing_commas() {
        let policy = r#"{
            // people, "quoted" // twice
            "acls": [
                {"action": "accept", "src": ["a"], "dst": ["*:80",],}, /* , ] */
                {"action": "accept", "src": ["say \"//no\""], "dst": ["b:1"]},
            ],
        }"#;
        let second = r#"{"action":"accept","dst":["b:1"],"src":["say \"//no\""]}"#;
        let found: serde_json::Value = serde_json::from_str(&rule_text(policy, "acls[1]").unwrap()).unwrap();
        assert_eq!(found, serde_json::from_str::<serde_json::Value>(second).unwrap());
        assert_eq!(rule_text(policy, "acls[2]"), None);
        assert_eq!(rule_text("{ /* never closed", "acls[0]"), None);
    }
}

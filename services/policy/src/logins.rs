//! Replacing the names of users in a policy's text.

use crate::document::Document;
use crate::error::PolicyError;
use crate::hujson::{self, Kind, Member, Value};
use crate::selector::is_user_name;

/// Rewrites every user named in a policy's text: login to pseudonym on the way into the log, and back for
/// reading.
///
/// A user is any text of the file, or of a comment that states conditions, except keys, that holds an `@` or is a pseudonym, with or without ports
/// behind it. Everything else (layout, comments, other texts) stays byte for byte. A name that `map` does not
/// know is refused: it would get into the log in the clear.
pub fn replace_logins(
    text: &str,
    map: &mut dyn FnMut(&str) -> Option<String>,
) -> Result<String, PolicyError> {
    let document = Document::parse(text)?;
    let mut tokens = Vec::new();
    collect(document.root(), &mut tokens);
    document.directives().iter().for_each(|directive| collect(directive, &mut tokens));
    tokens.sort_by_key(|(value, _)| value.start);
    let mut rewritten = String::with_capacity(text.len());
    let mut copied = 0;
    for (value, token) in tokens {
        let (name, ports) = split_ports(token);
        if !is_user_name(name) {
            continue;
        }
        let Some(replacement) = map(name) else {
            return Err(document
                .refuse(value.start, format!("user not found: {name:?}"))
                .with_help("add the user first, or remove the name from the policy"));
        };
        rewritten.push_str(text.get(copied..value.start).unwrap_or(""));
        rewritten.push_str(&serde_json::Value::String(format!("{replacement}{ports}")).to_string());
        copied = value.end;
    }
    rewritten.push_str(text.get(copied..).unwrap_or(""));
    Ok(rewritten)
}

/// The words of a policy's comments and keys that look like logins. [`replace_logins`] leaves them as they
/// are, so whoever keeps a text where people must not be named refuses it, or asks for them to be taken out.
/// At most a hundred.
pub fn logins_in_remarks(text: &str) -> Result<Vec<PolicyError>, PolicyError> {
    let hujson::Parsed { root, comments, directives } = hujson::parse(text)?;
    let mut found = Vec::new();
    for comment in comments {
        let words = text.get(comment.clone()).unwrap_or("");
        found.extend(login_words(words).map(|(at, word)| (comment.start + at, "comment", word.to_owned())));
    }
    let mut keys = Vec::new();
    collect_keys(&root, &mut keys);
    directives.iter().for_each(|directive| collect_keys(directive, &mut keys));
    for member in keys {
        found.extend(login_words(&member.key).map(|(_, word)| (member.key_start, "key", word.to_owned())));
    }
    found.sort();
    let document = Document::parse(text)?;
    let refuse = |(at, place, word): (usize, &str, String)| {
        document
            .refuse(at, format!("the {place} names {word:?}, who seems to be a person"))
            .with_help("take the name out: comments and keys are kept as they are")
    };
    Ok(found.into_iter().take(100).map(refuse).collect())
}

/// Words with an `@` inside, and where they begin.
fn login_words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '@' | '.' | '-' | '_' | '+');
    let mut at = 0;
    text.split(move |c: char| !is_part(c))
        .map(move |word| {
            let start = at;
            // Every separator is one character; its length is found again from the text.
            at += word.len();
            at += text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
            (start, word)
        })
        .filter(|(_, word)| {
            word.split_once('@').is_some_and(|(name, domain)| !name.is_empty() && !domain.is_empty())
        })
}

fn collect_keys<'v>(value: &'v Value, keys: &mut Vec<&'v Member>) {
    match &value.kind {
        Kind::Array(items) => items.iter().for_each(|item| collect_keys(item, keys)),
        Kind::Object(members) => {
            for member in members {
                keys.push(member);
                collect_keys(&member.value, keys);
            }
        }
        _ => {}
    }
}

/// All texts but keys, in order of the file.
fn collect<'v>(value: &'v Value, tokens: &mut Vec<(&'v Value, &'v str)>) {
    match &value.kind {
        Kind::String(text) => tokens.push((value, text)),
        Kind::Array(items) => items.iter().for_each(|item| collect(item, tokens)),
        Kind::Object(members) => members.iter().for_each(|member| collect(&member.value, tokens)),
        _ => {}
    }
}

/// Parts `ada@example.com:22` into the name and `:22`.
fn split_ports(token: &str) -> (&str, &str) {
    let name_end = token.rfind('@').unwrap_or(0);
    let colon = token.get(name_end..).and_then(|tail| tail.find(':')).map(|at| at + name_end);
    match colon {
        Some(at) if !token.starts_with("group:") && !token.starts_with("tag:") => token.split_at(at),
        _ => (token, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{\n  // ask ada@example.com\n  \"groups\": {\"group:ops\": [\"ada@example.com\", /* x */ \"usr_\\u0061\",],},\n  \"acls\": [{\"action\": \"accept\", \"src\": [\"group:ops\"], \"dst\": [ \"bob@example.com:22,80\", \"tag:web:443\"]}] }";

    #[test]
    fn names_are_replaced_there_and_back_and_nothing_else_moves() {
        let pairs = [
            ("ada@example.com", "usr_aaaaaaaaaaaaaaaaaaaaaaaaaa"),
            ("bob@example.com", "usr_eaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ];
        let mut there =
            |name: &str| pairs.iter().find(|(login, _)| *login == name).map(|(_, id)| id.to_string());
        let hidden = replace_logins(TEXT, &mut there).expect("known logins");
        assert!(hidden.contains("\"usr_eaaaaaaaaaaaaaaaaaaaaaaaaa:22,80\", \"tag:web:443\""), "{hidden}");
        assert!(hidden.contains("// ask ada@example.com"), "comments are left to the caller");
        let mut back =
            |name: &str| pairs.iter().find(|(_, id)| *id == name).map(|(login, _)| login.to_string());
        assert_eq!(replace_logins(&hidden, &mut back).expect("known pseudonyms"), TEXT);
    }

    #[test]
    fn people_in_comments_and_keys_are_pointed_out() {
        let found = logins_in_remarks(TEXT).expect("readable");
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown.len(), 1, "{shown:?}");
        assert!(
            shown[0].starts_with("line 2, column 10: the comment names \"ada@example.com\""),
            "{shown:?}"
        );
        let key = logins_in_remarks("{\"groups\": {\"group:ada@example.com\": []}} /* see @ops or a@ */")
            .expect("readable");
        assert_eq!(
            key.iter().map(PolicyError::path).collect::<Vec<_>>(),
            ["groups[\"group:ada@example.com\"]"]
        );
    }

    #[test]
    fn an_unknown_login_is_refused_with_its_place() {
        let refusal = replace_logins(TEXT, &mut |_| None).expect_err("unknown");
        assert_eq!((refusal.line(), refusal.path()), (3, "groups[\"group:ops\"][0]"));
        assert!(refusal.message().contains("ada@example.com"));
    }
}

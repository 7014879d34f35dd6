//! Replacing the names of users in a policy's text.

use crate::document::Document;
use crate::error::PolicyError;
use crate::hujson::{Kind, Value};
use crate::selector::is_user_name;

/// Rewrites every user named in a policy's text: login to pseudonym on the way into the log, and back for reading.
///
/// A user is any text of the file, except keys, that holds an `@` or is a pseudonym, with or without ports behind it. Everything else
/// (layout, comments, other texts) stays byte for byte. A name that `map` does not know is refused: it would get into the
/// log in the clear.
pub fn replace_logins(
    text: &str,
    map: &mut dyn FnMut(&str) -> Option<String>,
) -> Result<String, PolicyError> {
    let document = Document::parse(text)?;
    let mut tokens = Vec::new();
    collect(document.root(), &mut tokens);
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
    fn an_unknown_login_is_refused_with_its_place() {
        let refusal = replace_logins(TEXT, &mut |_| None).expect_err("unknown");
        assert_eq!((refusal.line(), refusal.path()), (3, "groups[\"group:ops\"][0]"));
        assert!(refusal.message().contains("ada@example.com"));
    }
}

//! HuJSON: JSON with comments and trailing commas, every value with its place in the text.
//!
//! Our own reader and not a JSON library's, because errors need line, column and key path of every value,
//! because rewriting a name must leave comments and layout byte for byte as they were, and because a
//! duplicate key must be refused: of two definitions of one group, readers would disagree on which counts.

use std::collections::HashSet;
use std::ops::Range;

use crate::error::{Place, PolicyError};

/// Largest policy text read.
pub(crate) const MAX_TEXT_BYTES: usize = 1 << 20;

/// Deepest nesting read; policies use about six levels.
const MAX_DEPTH: usize = 64;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub(crate) kind: Kind,
    /// Bytes of the text from `start` up to `end`.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    /// As it was written.
    Number(String),
    String(String),
    Array(Vec<Value>),
    Object(Vec<Member>),
}

/// A key of an object and its value.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) key: String,
    pub(crate) key_start: usize,
    pub(crate) value: Value,
}

impl Kind {
    /// What the value is, for messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool(_) => "a boolean",
            Kind::Number(_) => "a number",
            Kind::String(_) => "a string",
            Kind::Array(_) => "an array",
            Kind::Object(_) => "an object",
        }
    }
}

impl Value {
    /// The value without places.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.kind {
            Kind::Null => serde_json::Value::Null,
            Kind::Bool(value) => (*value).into(),
            Kind::Number(text) => serde_json::from_str(text).unwrap_or_default(),
            Kind::String(text) => text.as_str().into(),
            Kind::Array(items) => items.iter().map(Value::to_json).collect(),
            Kind::Object(members) => serde_json::Value::Object(
                members.iter().map(|m| (m.key.clone(), m.value.to_json())).collect(),
            ),
        }
    }
}

/// A text as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Parsed {
    pub(crate) root: Value,
    /// Where comments stand that are for people only.
    pub(crate) comments: Vec<Range<usize>>,
    /// What comments say that begin with [`DIRECTIVE`], in order of the text.
    pub(crate) directives: Vec<Value>,
}

/// With this word, and a colon, begins a comment that is for us: other readers of the language pass over it.
const DIRECTIVE: &str = "writ";

/// Reads a text as one HuJSON value.
pub(crate) fn parse(text: &str) -> Result<Parsed, PolicyError> {
    if text.len() > MAX_TEXT_BYTES {
        let message = format!("the policy has {} bytes; at most {MAX_TEXT_BYTES} are read", text.len());
        return Err(PolicyError::new(Place { line: 1, column: 1 }, String::new(), message));
    }
    let mut parser = Parser::at(text, 0);
    parser.skip_blank()?;
    let value = parser.value()?;
    parser.skip_blank()?;
    if parser.at < text.len() {
        return Err(parser.refuse(parser.at, "there is text after the end of the policy"));
    }
    Ok(Parsed { root: value, comments: parser.comments, directives: parser.directives })
}

/// One step from a value to a value inside it.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// Writes a path as `acls[0].src[1]`, keys that are no plain word as `groups["group:a"]`.
pub(crate) fn path_text<'a>(steps: impl IntoIterator<Item = &'a Step>) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Index(index) => text.push_str(&format!("[{index}]")),
            Step::Key(key)
                if key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !key.is_empty() =>
            {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            Step::Key(key) => text.push_str(&format!("[{key:?}]")),
        }
    }
    text
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    path: Vec<Step>,
    comments: Vec<Range<usize>>,
    directives: Vec<Value>,
}

impl<'a> Parser<'a> {
    fn at(text: &'a str, at: usize) -> Self {
        Self { text, at, path: Vec::new(), comments: Vec::new(), directives: Vec::new() }
    }

    fn refuse(&self, offset: usize, message: impl Into<String>) -> PolicyError {
        PolicyError::new(Place::of(self.text, offset), path_text(&self.path), message)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// Skips white space and comments.
    fn skip_blank(&mut self) -> Result<(), PolicyError> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                Some(b'/') => self.skip_comment()?,
                _ if self.at == 0 && self.rest().starts_with('\u{feff}') => self.at += '\u{feff}'.len_utf8(),
                _ => return Ok(()),
            }
        }
    }

    fn skip_comment(&mut self) -> Result<(), PolicyError> {
        let rest = self.rest();
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(body) = rest.strip_prefix("/*") {
            match body.find("*/") {
                Some(end) => end + "/**/".len(),
                None => {
                    return Err(self.refuse(self.at, "a comment is opened by `/*` and never closed by `*/`"));
                }
            }
        } else {
            return Err(self.refuse(self.at, "a single `/`: a comment begins with `//` or `/*`"));
        };
        let comment = self.at..self.at + length;
        match self.directive(&comment)? {
            Some(directive) => self.directives.push(directive),
            None => self.comments.push(comment),
        }
        self.at += length;
        Ok(())
    }

    /// What a comment says to us, if it is for us. One that only looks like it is refused: passed over, it would take back
    /// what its writer asked for.
    fn directive(&self, comment: &Range<usize>) -> Result<Option<Value>, PolicyError> {
        let text = self.text.get(comment.clone()).unwrap_or("");
        let body = text.get("//".len()..).unwrap_or("").trim_start_matches(['*', '/', ' ', '\t', '\r', '\n']);
        let is_named = body.get(..DIRECTIVE.len()).is_some_and(|word| word.eq_ignore_ascii_case(DIRECTIVE));
        let rest = body.get(DIRECTIVE.len()..).unwrap_or("").trim_start();
        if !is_named || !rest.starts_with([':', '=', '{']) {
            return Ok(None);
        }
        let value = rest.strip_prefix(':').map(str::trim_start);
        let Some(value) = value.filter(|value| value.starts_with('{') && body.starts_with(DIRECTIVE)) else {
            let message = "this comment looks like conditions of a rule and is not written as such";
            return Err(self.refuse(comment.start, message).with_help(
                "write it as `// writ: {\"mfa\": true}`, or begin the comment with another word",
            ));
        };
        let end = comment.end - if text.starts_with("/*") { "*/".len() } else { 0 };
        // What is left of the comment's text is at its end, so its length says where it begins.
        let start = comment.end - value.len();
        let mut inner =
            Parser { path: self.path.clone(), ..Parser::at(self.text.get(..end).unwrap_or(""), start) };
        let value = inner.value()?;
        inner.skip_blank()?;
        if inner.at < end || !inner.comments.is_empty() {
            return Err(inner.refuse(inner.at, "nothing but one object may stand in this comment"));
        }
        Ok(Some(value))
    }

    fn value(&mut self) -> Result<Value, PolicyError> {
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{') => Kind::Object(self.object()?),
            Some(b'[') => Kind::Array(self.array()?),
            Some(b'"') => Kind::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => Kind::Number(self.number()?),
            Some(b'\'') => return Err(self.refuse(start, "text stands in double quotes, not single ones")),
            Some(_) => self.word()?,
            None => return Err(self.refuse(start, "the text ends where a value is expected")),
        };
        Ok(Value { kind, start, end: self.at })
    }

    fn word(&mut self) -> Result<Kind, PolicyError> {
        let length = self.rest().find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest().len());
        let kind = match self.rest().get(..length).unwrap_or("") {
            "null" => Kind::Null,
            "true" => Kind::Bool(true),
            "false" => Kind::Bool(false),
            "" => {
                let found = self.rest().chars().next().unwrap_or(' ');
                return Err(self.refuse(self.at, format!("{found:?} stands where a value is expected")));
            }
            other => {
                let shown: String = other.chars().take(32).collect();
                return Err(self
                    .refuse(self.at, format!("`{shown}` is not a value"))
                    .with_help("text stands in double quotes"));
            }
        };
        self.at += length;
        Ok(kind)
    }

    /// Enters one level of nesting.
    fn enter(&mut self, step: Step) -> Result<(), PolicyError> {
        if self.path.len() >= MAX_DEPTH {
            return Err(self.refuse(self.at, format!("values are nested more than {MAX_DEPTH} levels deep")));
        }
        self.path.push(step);
        Ok(())
    }

    fn array(&mut self) -> Result<Vec<Value>, PolicyError> {
        let opened = self.at;
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.skip_blank()?;
            if self.peek() == Some(b']') {
                self.at += 1;
                return Ok(items);
            }
            self.enter(Step::Index(items.len()))?;
            items.push(self.value()?);
            self.path.pop();
            self.separator(opened, b']')?;
        }
    }

    fn object(&mut self) -> Result<Vec<Member>, PolicyError> {
        let opened = self.at;
        self.at += 1;
        let mut members = Vec::new();
        let mut seen = HashSet::new();
        loop {
            self.skip_blank()?;
            match self.peek() {
                Some(b'}') => {
                    self.at += 1;
                    return Ok(members);
                }
                Some(b'"') => {}
                _ => return Err(self.refuse(self.at, "a key in double quotes or `}` is expected here")),
            }
            let key_start = self.at;
            let key = self.string()?;
            self.enter(Step::Key(key.clone()))?;
            if !seen.insert(key.clone()) {
                return Err(self.refuse(key_start, format!("the key {key:?} stands here a second time")));
            }
            self.skip_blank()?;
            if self.peek() != Some(b':') {
                return Err(self.refuse(self.at, "a `:` is expected after the key"));
            }
            self.at += 1;
            self.skip_blank()?;
            let value = self.value()?;
            self.path.pop();
            members.push(Member { key, key_start, value });
            self.separator(opened, b'}')?;
        }
    }

    /// Reads the `,` between two items, or stops before the closing bracket.
    fn separator(&mut self, opened: usize, close: u8) -> Result<(), PolicyError> {
        self.skip_blank()?;
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(())
            }
            Some(found) if found == close => Ok(()),
            Some(_) => Err(self.refuse(self.at, format!("`,` or `{}` is expected here", char::from(close)))),
            None => Err(self.refuse(opened, format!("this is never closed by `{}`", char::from(close)))),
        }
    }

    fn number(&mut self) -> Result<String, PolicyError> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.');
        let length = self.rest().find(|c| !is_part(c)).unwrap_or(self.rest().len());
        let text = self.rest().get(..length).unwrap_or("");
        if serde_json::from_str::<serde_json::Number>(text).is_err() {
            return Err(self.refuse(self.at, "this is not a number that JSON knows"));
        }
        let text = text.to_owned();
        self.at += length;
        Ok(text)
    }

    fn string(&mut self) -> Result<String, PolicyError> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut end = start + 1;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(0..=0x1f) => {
                    return Err(self
                        .refuse(end, "a control character in a text: write it as an escape, such as `\\n`"));
                }
                Some(_) => end += 1,
                None => return Err(self.refuse(start, "this text is never closed by `\"`")),
            }
        }
        let token = self.text.get(start..=end).unwrap_or("");
        let Ok(text) = serde_json::from_str(token) else {
            return Err(self.refuse(start, "this text has an escape that JSON does not know"));
        };
        self.at = end + 1;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn comments_and_trailing_commas_are_read() {
        let value =
            parse("\u{feff}// a\n{ /* b */ \"k\": [1, \"x\", null, true,], // c\n}").expect("valid").root;
        let Kind::Object(members) = value.kind else { panic!("not an object") };
        assert_eq!(members.len(), 1);
        let Kind::Array(items) = &members[0].value.kind else { panic!("not an array") };
        assert_eq!(items.len(), 4);
    }

    #[test]
    fn a_refusal_names_line_column_and_path() {
        assert_eq!(
            refusal("{\n  \"acls\": [\n    {\"src\": [x]}\n  ]\n}"),
            "line 3, column 14, acls[0].src[0]: `x` is not a value; text stands in double quotes"
        );
    }

    #[test]
    fn comments_for_us_are_read_and_those_that_only_look_so_are_refused() {
        let parsed = parse("{ // writ: {\"a\": 1}\n /* writ : {\n \"b\": 2} */ \"k\": 1 // writ is ours\n}");
        let parsed = parsed.expect("valid");
        assert_eq!((parsed.directives.len(), parsed.comments.len()), (2, 1));
        for (text, part) in [
            ("// Writ: {}\n{}", "looks like conditions"),
            ("// writ {\"mfa\": true}\n{}", "looks like conditions"),
            ("// writ: mfa\n{}", "looks like conditions"),
            ("// writ={}\n{}", "looks like conditions"),
            ("// writ: {\"mfa\": true\n{}", "never closed"),
            ("// writ: {} and more\n{}", "nothing but one object"),
            ("/* writ: {\"a\": \"*/\"} */ {}", "never closed"),
        ] {
            assert!(refusal(text).contains(part), "{text}: {}", refusal(text));
        }
    }

    #[test]
    fn a_duplicate_key_is_refused() {
        assert_eq!(
            refusal("{\"group:a\": 1,\n \"group:a\": 2}"),
            "line 2, column 2, [\"group:a\"]: the key \"group:a\" stands here a second time"
        );
        assert!(
            refusal(r#"{"a": 1, "\u0061": 2}"#).contains("second time"),
            "escapes do not hide a duplicate"
        );
    }

    #[test]
    fn nesting_and_size_are_bounded() {
        assert!(refusal(&"[".repeat(100_000)).contains("nested more than 64"));
        assert!(parse(&format!("{}{}", "[".repeat(60), "]".repeat(60))).is_ok());
        assert!(refusal(&" ".repeat(MAX_TEXT_BYTES + 1)).contains("at most 1048576"));
    }

    #[test]
    fn broken_texts_are_refused_in_words() {
        for (text, part) in [
            ("", "the text ends"),
            ("{", "`}` is expected"),
            ("[1", "never closed by `]`"),
            ("{\"a\" 1}", "`:` is expected"),
            ("{\"a\":1 \"b\":2}", "`,` or `}`"),
            ("[,]", "','"),
            ("/* x", "never closed by `*/`"),
            ("/ x", "single `/`"),
            ("'a'", "double quotes"),
            ("\"a", "never closed"),
            ("\"a\\", "never closed"),
            ("\"\\x\"", "escape"),
            ("\"a\nb\"", "control character"),
            ("01", "not a number"),
            ("1e", "not a number"),
            ("{} {}", "after the end"),
        ] {
            assert!(refusal(text).contains(part), "{text}: {}", refusal(text));
        }
    }
}

//! Whether a text is one JSON object (RFC 8259): a check that builds nothing, several times as fast as parsing.

/// Checks a text without control characters. The error is the byte at which it stops being JSON.
pub(super) fn check_object(text: &[u8]) -> Result<(), usize> {
    let mut check = Check { text, at: 0, nesting: Vec::new() };
    match check.run() {
        Some(()) => Ok(()),
        None => Err(check.at),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

struct Check<'a> {
    text: &'a [u8],
    at: usize,
    nesting: Vec<Container>,
}

impl Check<'_> {
    /// `None` where it is not JSON.
    fn run(&mut self) -> Option<()> {
        self.expect(b'{')?;
        let mut opened = self.open(Container::Object)?;
        loop {
            if !opened {
                // A value has ended: what follows belongs to what it stands in.
                let Some(container) = self.nesting.last().copied() else {
                    return (self.at == self.text.len()).then_some(());
                };
                match (self.next()?, container) {
                    (b',', Container::Object) => self.key()?,
                    (b',', Container::Array) => {}
                    (b'}', Container::Object) | (b']', Container::Array) => {
                        self.nesting.pop();
                        self.at += 1;
                        continue;
                    }
                    _ => return None,
                }
                if container == Container::Array {
                    self.at += 1;
                }
            }
            opened = self.value()?;
        }
    }

    /// Enters a container: whether a value is to come in it.
    fn open(&mut self, container: Container) -> Option<bool> {
        let end = if container == Container::Object { b'}' } else { b']' };
        if self.next()? == end {
            self.at += 1;
            return Some(false);
        }
        self.nesting.push(container);
        if container == Container::Object {
            self.name()?;
        }
        Some(true)
    }

    fn key(&mut self) -> Option<()> {
        self.at += 1;
        self.name()
    }

    fn name(&mut self) -> Option<()> {
        self.expect(b'"')?;
        self.string()?;
        self.expect(b':')
    }

    /// Goes past a value, or into a container that has one: whether it did the latter.
    fn value(&mut self) -> Option<bool> {
        let first = self.next()?;
        self.at += 1;
        match first {
            b'"' => self.string()?,
            b'{' => return self.open(Container::Object),
            b'[' => return self.open(Container::Array),
            b'-' | b'0'..=b'9' => self.number(first)?,
            b't' => self.word(b"rue")?,
            b'f' => self.word(b"alse")?,
            b'n' => self.word(b"ull")?,
            _ => {
                self.at -= 1;
                return None;
            }
        }
        Some(false)
    }

    /// Goes past the rest of a string, whose quotation mark was read.
    fn string(&mut self) -> Option<()> {
        loop {
            let rest = self.text.get(self.at..)?;
            let Some(found) = memchr::memchr2(b'"', b'\\', rest) else {
                self.at = self.text.len();
                return None;
            };
            self.at += found + 1;
            if rest.get(found) == Some(&b'"') {
                return Some(());
            }
            match self.text.get(self.at)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
                b'u' => {
                    let digits = self.text.get(self.at + 1..self.at + 5)?;
                    if !digits.iter().all(u8::is_ascii_hexdigit) {
                        return None;
                    }
                    self.at += 5;
                }
                _ => return None,
            }
        }
    }

    /// Goes past the rest of a number.
    fn number(&mut self, first: u8) -> Option<()> {
        let leading = if first == b'-' { self.digit()? } else { first };
        if leading != b'0' {
            self.digits();
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digit()?;
            self.digits();
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            self.digit()?;
            self.digits();
        }
        Some(())
    }

    fn digit(&mut self) -> Option<u8> {
        let digit = self.text.get(self.at).filter(|byte| byte.is_ascii_digit())?;
        self.at += 1;
        Some(*digit)
    }

    fn digits(&mut self) {
        while self.digit().is_some() {}
    }

    fn word(&mut self, rest: &[u8]) -> Option<()> {
        self.text.get(self.at..)?.starts_with(rest).then(|| self.at += rest.len())
    }

    /// The next byte that is no space.
    fn next(&mut self) -> Option<u8> {
        while self.text.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then(|| self.at += 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn agrees(text: &str) {
        let theirs = text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok();
        // A space behind the object is JSON, but no record ends with one.
        if !text.ends_with(' ') {
            assert_eq!(check_object(text.as_bytes()).is_ok(), theirs, "{text}");
        }
    }

    #[test]
    fn it_accepts_what_the_parser_accepts_and_nothing_else() {
        for text in [
            "{}",
            "{ }",
            "{\"a\":1}",
            "{\"a\":1,}",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1 \"b\":2}",
            "{}{}",
            "{",
            "}",
            "{\"a\":[]}",
            "{\"a\":[1,2]}",
            "{\"a\":[1,]}",
            "{\"a\":[,1]}",
            "{\"a\":[1 2]}",
            "{\"a\":[}",
            "{\"a\":[1}}",
            "{\"a\":{\"b\":[{}]}}",
            "{\"a\":01}",
            "{\"a\":-}",
            "{\"a\":-0}",
            "{\"a\":1.}",
            "{\"a\":1.5e+3}",
            "{\"a\":1e}",
            "{\"a\":.5}",
            "{\"a\":tru}",
            "{\"a\":true}",
            "{\"a\":falsey}",
            "{\"a\":null}",
            "{a:1}",
            "{\"a\\u00zz\":1}",
            "{\"a\\u00e4\":1}",
            "{\"a\\x\":1}",
            "{\"a\\\":1}",
            "{\"\\\\\":\"\\\"\"}",
            "{\"a\":\"b}",
            "{\"a\" : { \"b\" : [ 1 , 2 ] } }",
        ] {
            agrees(text);
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_parser_about_anything(text in r#"\{["a01,:\[\]{}\\u \-.etrufalsn]{0,24}\}"#) {
            agrees(&text);
        }

        #[test]
        fn it_agrees_about_objects_with_one_byte_changed(
            values in proptest::collection::vec((any::<String>(), any::<f64>(), any::<bool>()), 0..4),
            at in any::<prop::sample::Index>(),
            byte in 0x20_u8..0x7f,
        ) {
            let text = serde_json::to_string(&serde_json::json!({ "v": values, "n": { "x": [null, {}] } })).unwrap();
            agrees(&text);
            let mut bytes = text.into_bytes();
            let at = at.index(bytes.len());
            if bytes[at].is_ascii() {
                bytes[at] = byte;
                agrees(&String::from_utf8(bytes).unwrap());
            }
        }
    }
}

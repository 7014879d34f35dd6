//! Putting an item into a list of a text, and taking one out, with every other byte left as it is.
//!
//! A list is an array or an object of HuJSON. What is put in is laid out as its neighbour is; what is taken out takes its
//! comma and, if it stood alone on its lines, those lines with it. Comments stay, whatever they are about.

use std::ops::Range;

use crate::hujson::{Kind, Value};

/// Where a list and its items stand in a text.
pub(crate) struct List<'t> {
    text: &'t str,
    /// Behind the opening bracket.
    start: usize,
    /// Before the closing bracket.
    end: usize,
    items: Vec<Range<usize>>,
}

impl<'t> List<'t> {
    /// The list that a value is, if it is one.
    pub(crate) fn of(text: &'t str, value: &Value) -> Option<Self> {
        let items = match &value.kind {
            Kind::Array(items) => items.iter().map(|item| item.start..item.end).collect(),
            Kind::Object(members) => members.iter().map(|m| m.key_start..m.value.end).collect(),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::String(_) => return None,
        };
        Some(Self { text, start: value.start + 1, end: value.end.saturating_sub(1), items })
    }

    /// The text with an item more, behind the others.
    pub(crate) fn with(&self, item: &str) -> String {
        let Some(last) = self.items.last() else { return self.inserted(&[(self.start, item)]) };
        let comma = self.comma_after(last.end);
        let (tail, trailing) = match comma {
            Some(comma) => (comma + 1, ","),
            None => (last.end, ""),
        };
        if !self.slice(last.end..self.end).contains('\n') {
            let before = if comma.is_some() { " " } else { ", " };
            return self.inserted(&[(tail, &format!("{before}{item}{trailing}"))]);
        }
        // A comment at the end of the neighbour's line is about the neighbour.
        let line_end = self.end_of_line(tail);
        let newline = if self.slice(line_end..self.end).starts_with("\r\n") { "\r\n" } else { "\n" };
        let line = format!("{newline}{}{item}{trailing}", self.indentation(last.start));
        match comma {
            Some(_) => self.inserted(&[(line_end, &line)]),
            None => self.inserted(&[(last.end, ","), (line_end, &line)]),
        }
    }

    /// The text without an item; as it was if there is no such item.
    pub(crate) fn without(&self, position: usize) -> String {
        let Some(item) = self.items.get(position).cloned() else { return self.text.to_owned() };
        let own = self.comma_after(item.end);
        let before = position.checked_sub(1).and_then(|before| self.items.get(before));
        // Without a comma of its own it is the last, and the comma before it would be left over.
        let comma = own.or_else(|| before.and_then(|before| self.comma_after(before.end)));
        let mut gone = item.clone();
        let mut commas = Vec::new();
        match comma {
            Some(comma) if comma == item.end => gone.end = comma + 1,
            Some(comma) => commas.push(comma..comma + 1),
            None => {}
        }
        let is_last = position + 1 == self.items.len();
        let gone = match self.whole_lines(&gone) {
            Some(lines) => lines,
            None if before.is_none() && is_last => gone,
            None if is_last => self.blanks_before(gone.start)..gone.end,
            None => gone.start..self.blanks_after(gone.end),
        };
        self.deleted(commas.into_iter().chain([gone]).collect())
    }

    /// The comma behind an item; comments may stand between.
    fn comma_after(&self, at: usize) -> Option<usize> {
        let mut at = at;
        while at < self.end {
            let rest = self.slice(at..self.end);
            match rest.as_bytes().first() {
                Some(b',') => return Some(at),
                Some(b'/') => at += comment(rest),
                Some(b' ' | b'\t' | b'\r' | b'\n') => at += 1,
                _ => return None,
            }
        }
        None
    }

    /// The end of the line, behind the comments that end it. A comment that goes on below ends no line.
    fn end_of_line(&self, from: usize) -> usize {
        let mut at = from;
        while at < self.end {
            let rest = self.slice(at..self.end);
            let length = match rest.as_bytes().first() {
                Some(b' ' | b'\t') => 1,
                Some(b'/') => comment(rest),
                _ => break,
            };
            if self.slice(at..at + length).contains('\n') {
                return from;
            }
            at += length;
        }
        match self.text.as_bytes().get(at) {
            Some(b'\r' | b'\n') => at,
            // Something follows on the same line.
            _ => from,
        }
    }

    fn line_start(&self, at: usize) -> usize {
        self.slice(0..at).rfind('\n').map_or(0, |newline| newline + 1)
    }

    fn indentation(&self, at: usize) -> &'t str {
        let line = self.slice(self.line_start(at)..at);
        let length = line.find(|c| c != ' ' && c != '\t').unwrap_or(line.len());
        line.get(..length).unwrap_or("")
    }

    /// The lines of a range, with their ends, if nothing else stands on them.
    fn whole_lines(&self, range: &Range<usize>) -> Option<Range<usize>> {
        let start = self.line_start(range.start);
        let is_first = self.slice(start..range.start).bytes().all(|byte| byte == b' ' || byte == b'\t');
        let end = self.blanks_after(range.end);
        let rest = self.slice(end..self.end);
        let newline = ["\r\n", "\n"].into_iter().find(|newline| rest.starts_with(newline))?;
        (is_first && start >= self.start).then_some(start..end + newline.len())
    }

    fn blanks_after(&self, at: usize) -> usize {
        let rest = self.slice(at..self.end);
        at + rest.len() - rest.trim_start_matches([' ', '\t']).len()
    }

    fn blanks_before(&self, at: usize) -> usize {
        self.slice(0..at).trim_end_matches([' ', '\t']).len()
    }

    fn slice(&self, range: Range<usize>) -> &'t str {
        self.text.get(range).unwrap_or("")
    }

    /// The text with pieces put in, given in order.
    fn inserted(&self, pieces: &[(usize, &str)]) -> String {
        let mut text = String::with_capacity(self.text.len() + 64);
        let mut copied = 0;
        for (at, piece) in pieces {
            text.push_str(self.slice(copied..*at));
            text.push_str(piece);
            copied = *at;
        }
        text.push_str(self.slice(copied..self.text.len()));
        text
    }

    fn deleted(&self, mut ranges: Vec<Range<usize>>) -> String {
        ranges.sort_by_key(|range| range.start);
        let mut text = String::with_capacity(self.text.len());
        let mut copied = 0;
        for range in ranges {
            text.push_str(self.slice(copied..range.start));
            copied = copied.max(range.end);
        }
        text.push_str(self.slice(copied..self.text.len()));
        text
    }
}

/// Length of the comment that a text begins with.
fn comment(text: &str) -> usize {
    match text.strip_prefix("/*") {
        Some(body) => body.find("*/").map_or(text.len(), |end| end + "/**/".len()),
        None => text.find('\n').unwrap_or(text.len()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hujson::parse;

    fn with(text: &str, item: &str) -> String {
        let parsed = parse(text).expect(text);
        List::of(text, &parsed.root).expect("a list").with(item)
    }

    fn without(text: &str, position: usize) -> String {
        let parsed = parse(text).expect(text);
        List::of(text, &parsed.root).expect("a list").without(position)
    }

    #[test]
    fn an_item_is_laid_out_as_its_neighbour() {
        for (before, after) in [
            ("[]", "[9]"),
            ("[ /* none */ ]", "[9 /* none */ ]"),
            ("[1]", "[1, 9]"),
            ("[ 1, 2 ]", "[ 1, 2, 9 ]"),
            ("[1,]", "[1, 9,]"),
            ("[\n\t1, // one\n\t2 // two\n]", "[\n\t1, // one\n\t2, // two\n\t9\n]"),
            ("[\r\n  1,\r\n]", "[\r\n  1,\r\n  9,\r\n]"),
            ("{\n  \"a\": [\n    1\n  ]\n}", "{\n  \"a\": [\n    1\n  ],\n  9\n}"),
            ("[1 /* x\n */ ]", "[1,\n9 /* x\n */ ]"),
        ] {
            assert_eq!(with(before, "9"), after, "{before}");
        }
    }

    #[test]
    fn an_item_takes_its_comma_and_its_line_with_it_and_no_comment() {
        for (before, position, after) in [
            ("[1]", 0, "[]"),
            ("[1, 2]", 0, "[2]"),
            ("[1, 2]", 1, "[1]"),
            ("[1, 2,]", 1, "[1,]"),
            ("[1 /* one */, 2]", 0, "[/* one */ 2]"),
            ("[\n  1,\n  2\n]", 1, "[\n  1\n]"),
            ("[\n  1,\n  2,\n]", 0, "[\n  2,\n]"),
            ("[\n  1, // one\n  2,\n]", 0, "[\n  // one\n  2,\n]"),
            ("[\r\n  1,\r\n  2,\r\n]", 1, "[\r\n  1,\r\n]"),
            ("[1]", 5, "[1]"),
        ] {
            assert_eq!(without(before, position), after, "{before}");
        }
    }

    /// Lists with blanks, line ends, comments and trailing commas at every place.
    fn laid_out() -> impl Strategy<Value = (String, usize)> {
        let gap = prop::sample::select(vec![
            "",
            " ",
            "\n",
            "\r\n\t",
            " /* c */ ",
            " // c, ]\n",
            "\n\n  ",
            " /* c\n */",
        ]);
        let item = prop::sample::select(vec!["1", "\"a,]\"", "[1, /* x */ 2]", "{\"k\": 1,}"]);
        let items = prop::collection::vec((gap.clone(), item, gap.clone()), 0..5);
        (items, any::<bool>(), gap).prop_map(|(items, is_trailing, end)| {
            let written: Vec<String> = items.iter().map(|(a, item, b)| format!("{a}{item}{b}")).collect();
            let comma = if is_trailing && !items.is_empty() { "," } else { "" };
            (format!("[{}{comma}{end}]", written.join(",")), items.len())
        })
    }

    fn items(text: &str) -> Vec<serde_json::Value> {
        let json = parse(text).unwrap_or_else(|error| panic!("{error}\n{text}")).root.to_json();
        json.as_array().cloned().unwrap_or_default()
    }

    fn comments(text: &str) -> Vec<&str> {
        let parsed = parse(text).expect(text);
        parsed.comments.iter().map(|range| text.get(range.clone()).unwrap_or("")).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn what_was_put_in_can_be_taken_out_and_nothing_else_moved((text, count) in laid_out()) {
            let more = with(&text, "\"new\"");
            let mut wanted = items(&text);
            wanted.push("new".into());
            prop_assert_eq!(items(&more), wanted, "{}", more);
            prop_assert_eq!(comments(&more), comments(&text));
            // Lines that end in unusual places may be joined; the tables have the usual ones to the byte.
            let bare = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(bare(&without(&more, count)), bare(&text));
        }

        #[test]
        fn what_is_taken_out_is_one_item((text, count) in laid_out(), at in any::<prop::sample::Index>()) {
            prop_assume!(count > 0);
            let at = at.index(count);
            let less = without(&text, at);
            let mut wanted = items(&text);
            wanted.remove(at);
            prop_assert_eq!(items(&less), wanted, "{}", less);
            let inside = if text.contains("/* x */") { 4 } else { 0 };
            prop_assert!(comments(&less).len() + inside >= comments(&text).len());
            prop_assert!(is_subsequence(&less, &text));
        }
    }

    fn is_subsequence(part: &str, whole: &str) -> bool {
        let mut rest = whole.chars();
        part.chars().all(|c| rest.any(|other| other == c))
    }
}

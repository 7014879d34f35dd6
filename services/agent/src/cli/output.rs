//! What people are shown.

use std::fmt::{self, Display};

use serde_json::Value;

/// Lines for a terminal. What others have named is shown without control characters.
#[derive(Debug, Default)]
pub(super) struct Output(String);

impl Output {
    /// Adds a line.
    pub fn line(&mut self, line: impl Display) {
        let line = line.to_string();
        self.0.extend(line.chars().map(|c| if c.is_control() { ' ' } else { c }));
        self.0.push('\n');
    }

    /// Adds an empty line.
    pub fn gap(&mut self) {
        self.0.push('\n');
    }
}

impl Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value as people write it.
pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The items of a list, none if it is no list.
pub(super) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A number of bytes, as people read it.
pub(super) fn bytes(value: &Value) -> String {
    let mut amount = value.as_f64().unwrap_or_default();
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if amount < 1_024.0 {
            let digits = usize::from(unit != "B" && amount < 10.0);
            return format!("{amount:.digits$} {unit}");
        }
        amount /= 1_024.0;
    }
    format!("{amount:.1} TiB")
}

/// An authorization on one line.
pub(super) fn authorization(value: &Value) -> String {
    let direction = match (value["side"] == "source", value["route"].as_str()) {
        (true, None) => "to it".to_owned(),
        (true, Some(route)) => format!("to {route} behind it"),
        (false, None) => "from it".to_owned(),
        (false, Some(route)) => format!("from it to {route} behind this node"),
    };
    format!(
        "{direction}: {}{}  by {} of policy version {}, record {}, until {}",
        text(&value["protocol"]),
        ports(value),
        text(&value["rule"]),
        value["policy"],
        value["record"],
        text(&value["expires_at"]),
    )
}

fn ports(value: &Value) -> String {
    let ports = text(&value["ports"]);
    if ports == "0" { String::new() } else { format!(" {ports}") }
}

/// A path on one line.
pub(super) fn path(value: &Value) -> String {
    let mut line = format!("{} via {}", text(&value["kind"]), text(&value["address"]));
    if let Some(rtt) = value["rtt_ms"].as_f64() {
        line.push_str(&format!(", {rtt:.1} ms"));
    }
    if let Some(since) = value["since"].as_str() {
        line.push_str(&format!(", since {since}"));
    }
    if let Some(why) = value["why_relayed"].as_str() {
        line.push_str(&format!("; not direct because {why}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_are_short() {
        for (amount, shown) in [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (52_428_800, "50 MiB")] {
            assert_eq!(bytes(&json!(amount)), shown);
        }
    }

    #[test]
    fn what_others_named_does_not_steer_the_terminal() {
        let mut output = Output::default();
        output.line("a\u{1b}[2Jb");
        assert_eq!(output.to_string(), "a [2Jb\n");
    }
}

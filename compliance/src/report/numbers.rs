//! Record numbers as a reader likes them.

use writ_schema::Seq;

/// Groups of consecutive numbers, in order: `[1,2,3,7]` is `1–3, 7`.
pub fn ranges(records: &[Seq]) -> Vec<(Seq, Seq)> {
    let mut out: Vec<(Seq, Seq)> = Vec::new();
    for record in records {
        match out.last_mut() {
            Some((_, last)) if last.0.checked_add(1) == Some(record.0) => *last = *record,
            _ => out.push((*record, *record)),
        }
    }
    out
}

/// The first groups as text, and how many records the text leaves out.
pub(super) fn shortened(records: &[Seq], most: usize) -> (String, usize) {
    let groups = ranges(records);
    let shown: Vec<String> = groups
        .iter()
        .take(most)
        .map(|(first, last)| match last.0 - first.0 {
            0 => first.to_string(),
            1 => format!("{first}, {last}"),
            _ => format!("{first}\u{2013}{last}"),
        })
        .collect();
    let left: u64 = groups.iter().skip(most).map(|(first, last)| last.0 - first.0 + 1).sum();
    (shown.join(", "), usize::try_from(left).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_numbers_become_ranges() {
        let records: Vec<Seq> = [1, 2, 3, 7, 9, 10, 20, u64::MAX].map(Seq).into();
        assert_eq!(shortened(&records, 4), ("1\u{2013}3, 7, 9, 10, 20".to_owned(), 1));
        assert_eq!(shortened(&[], 4), (String::new(), 0));
    }
}

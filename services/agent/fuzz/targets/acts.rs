//! Bytes as a list of acts: a byte that says what, two that say how long, and so many more.

/// The acts, the last perhaps shorter than it says.
pub fn acts(mut data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let ([kind, high, low], rest) = data.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (bytes, later) = rest.split_at(length);
        data = later;
        Some((*kind, bytes))
    })
}

/// A copy in which bytes are others: pairs of where, and which bits.
pub fn edited(whole: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut copy = whole.to_vec();
    for [at, bits] in edits.as_chunks().0 {
        let at = usize::from(*at) % copy.len().max(1);
        if let Some(byte) = copy.get_mut(at) {
            *byte ^= bits;
        }
    }
    copy
}

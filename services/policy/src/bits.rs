//! Sets of line numbers, one bit each.

/// A set of small numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Bits {
    words: Vec<u64>,
}

const WORD_BITS: usize = u64::BITS as usize;

impl Bits {
    /// Room for the numbers below `count`.
    pub(crate) fn new(count: usize) -> Self {
        Self { words: vec![0; count.div_ceil(WORD_BITS)] }
    }

    /// Adds a number; one that there is no room for is a mistake of the caller and is left out.
    pub(crate) fn insert(&mut self, number: usize) {
        if let Some(word) = self.words.get_mut(number / WORD_BITS) {
            *word |= 1 << (number % WORD_BITS);
        }
    }

    pub(crate) fn contains(&self, number: usize) -> bool {
        self.words.get(number / WORD_BITS).is_some_and(|word| word & (1 << (number % WORD_BITS)) != 0)
    }

    pub(crate) fn extend(&mut self, other: &Bits) {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }
}

/// The numbers that are in both sets, or in both of a second pair, rising.
pub(crate) fn common<'a>(
    first: (&'a Bits, &'a Bits),
    second: Option<(&'a Bits, &'a Bits)>,
) -> impl Iterator<Item = usize> + 'a {
    let more = second.map(|(a, b)| (a.words.as_slice(), b.words.as_slice()));
    let words = first.0.words.iter().zip(&first.1.words).enumerate();
    words.flat_map(move |(index, (a, b))| {
        let word = |words: &[u64]| words.get(index).copied().unwrap_or(0);
        let mut word = (a & b) | more.map_or(0, |(a, b)| word(a) & word(b));
        std::iter::from_fn(move || {
            if word == 0 {
                return None;
            }
            let bit = word.trailing_zeros() as usize;
            word &= word - 1;
            Some(index * WORD_BITS + bit)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_numbers_come_out_in_order() {
        let bits = |numbers: &[usize]| {
            let mut bits = Bits::new(200);
            numbers.iter().for_each(|&n| bits.insert(n));
            bits
        };
        let (a, b, c) = (bits(&[1, 64, 199]), bits(&[64, 199]), bits(&[3]));
        assert_eq!(common((&a, &b), Some((&c, &c))).collect::<Vec<_>>(), vec![3, 64, 199]);
        assert_eq!(common((&a, &b), None).collect::<Vec<_>>(), vec![64, 199]);
        assert!(a.contains(199) && !a.contains(0) && !a.contains(1000));
    }
}

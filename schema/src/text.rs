//! Types that are written as one string: read where the string stands, without a copy of it in between. A replay reads a dozen of
//! them a record.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use data_encoding::BASE64;
use serde::Deserializer;
use serde::de::{Error, Visitor};

/// Reads what a type's `FromStr` reads.
pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    deserializer.deserialize_str(Text(PhantomData))
}

struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Longest base64 text that is read into an array.
const MAX_BASE64_CHARS: usize = 88;

/// Reads the base64 of exactly `N` bytes (at most 64).
pub(crate) fn base64<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut buffer = [0; MAX_BASE64_CHARS / 4 * 3];
    let space = buffer.get_mut(..BASE64.decode_len(text.len()).ok()?)?;
    let length = BASE64.decode_mut(text.as_bytes(), space).ok()?;
    space.get(..length)?.try_into().ok()
}

/// Implements reading and writing as one string by `FromStr` and `Display`.
macro_rules! as_text {
    ($name:ty) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::text::deserialize(deserializer)
            }
        }
    };
}
pub(crate) use as_text;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_at_its_exact_length_only() {
        for length in 0..70 {
            let text = BASE64.encode(&vec![7; length]);
            assert_eq!(base64::<32>(&text), (length == 32).then_some([7; 32]));
            assert_eq!(base64::<64>(&text), (length == 64).then_some([7; 64]));
        }
        assert_eq!(base64::<32>(&BASE64.encode(&[7; 32]).replace('=', "A")), None);
        assert_eq!(base64::<32>(""), None);
    }
}

//! Cosignatures (C2SP tlog-cosignature, Ed25519): a cosigner states that, at a time by its own clock, a checkpoint was the
//! largest that it had seen of the log, and continued all that it had seen before.

use crate::key::{CosignerKey, CosigningKey};
use crate::note::{Note, NoteError, NoteSignature};

const TIME_BYTES: usize = 8;

/// The largest time that a cosignature may state, in Unix seconds.
const MAX_UNIX_SECONDS: u64 = i64::MAX as u64;

impl CosigningKey {
    /// Cosigns a checkpoint's note as of a time. The caller has checked that the checkpoint continues all others.
    #[must_use]
    pub fn cosign(&self, checkpoint: &Note, unix_seconds: u64) -> NoteSignature {
        let signature = self.sign(&signed_message(checkpoint.text(), unix_seconds));
        let key = self.cosigner_key();
        NoteSignature {
            name: key.name().to_owned(),
            key_id: key.id(),
            bytes: [unix_seconds.to_be_bytes().as_slice(), &signature].concat(),
        }
    }
}

impl CosignerKey {
    /// The time that this key's cosignature on a checkpoint states, in Unix seconds; the newest, if there are several.
    /// `None` if the key has not cosigned.
    ///
    /// # Errors
    /// When a cosignature in the key's name is wrong.
    pub fn cosigned(&self, checkpoint: &Note) -> Result<Option<u64>, NoteError> {
        let by_key = |s: &&NoteSignature| s.name == self.name() && s.key_id == self.id();
        let mut newest = None;
        for signature in checkpoint.signatures().iter().filter(by_key) {
            let time = self.time_of(checkpoint.text(), signature);
            let time = time.ok_or_else(|| NoteError::WrongSignature(self.name().to_owned()))?;
            newest = newest.max(Some(time));
        }
        Ok(newest)
    }

    fn time_of(&self, text: &str, signature: &NoteSignature) -> Option<u64> {
        let (time, signature) = signature.bytes.split_first_chunk::<TIME_BYTES>()?;
        let time = u64::from_be_bytes(*time);
        (time <= MAX_UNIX_SECONDS && self.verifies(&signed_message(text, time), signature)).then_some(time)
    }
}

fn signed_message(text: &str, unix_seconds: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {unix_seconds}\n{text}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> CosigningKey {
        CosigningKey::from_seed("witness.example/w", [byte; 32]).unwrap()
    }

    fn note(size: u64) -> Note {
        Note::new(format!("writ.example/log\n{size}\n{}\n", crate::tree::leaf_hash(b"r"))).unwrap()
    }

    /// Made by Go's `github.com/transparency-dev/formats` v0.1.1 with the seed of 32 bytes 11.
    const GO_KEY: &str = "witness.example/w1+efcd800c+BGa+fjMsekUzMr2dCn99sFX1xe8aBq2mbZizn7aBDEc6";
    const GO_TIME: u64 = 1_795_591_031;
    const GO_NOTE: &str = "writ.example/log\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        — witness.example/w1 782ADAAAAABrBot3dMImDYaSXdbod9DsaPYUVPlxGwjqlMq/KxJy/NF2sZvz1XZwsKHbE2Lc07UWPil9EJg+XSYWU5hmzrq0LxJ4DA==\n";

    #[test]
    fn a_cosignature_is_the_one_that_others_tools_make() {
        let note: Note = GO_NOTE.parse().unwrap();
        let key: CosignerKey = GO_KEY.parse().unwrap();
        assert_eq!(key.cosigned(&note), Ok(Some(GO_TIME)));
        let ours = CosigningKey::from_seed("witness.example/w1", [11; 32]).unwrap();
        assert_eq!(ours.cosigner_key().to_string(), GO_KEY);
        assert_eq!(ours.cosign(&note, GO_TIME), note.signatures()[0]);
    }

    #[test]
    fn a_cosignature_states_its_time() {
        let mut note = note(4);
        assert_eq!(key(1).cosigner_key().cosigned(&note), Ok(None));
        note.add(key(1).cosign(&note, 1_700_000_000));
        note.add(key(1).cosign(&note, 1_700_000_009));
        note.add(key(2).cosign(&note, 1_800_000_000));
        let note: Note = note.to_string().parse().unwrap();
        assert_eq!(key(1).cosigner_key().cosigned(&note), Ok(Some(1_700_000_009)));
        assert_eq!(key(2).cosigner_key().cosigned(&note), Ok(Some(1_800_000_000)));
        assert_eq!(key(3).cosigner_key().cosigned(&note), Ok(None));
    }

    #[test]
    fn a_cosignature_of_another_checkpoint_time_or_key_is_wrong() {
        let wrong = Err(NoteError::WrongSignature("witness.example/w".into()));
        let mut other = note(5);
        other.add(key(1).cosign(&note(4), 1_700_000_000));
        assert_eq!(key(1).cosigner_key().cosigned(&other), wrong);
        for at in 0..72 {
            let mut altered = note(4);
            let mut signature = key(1).cosign(&altered, 1_700_000_000);
            signature.bytes[at] ^= 1;
            altered.add(signature);
            assert_eq!(key(1).cosigner_key().cosigned(&altered), wrong, "byte {at}");
        }
        let mut short = note(4);
        let mut signature = key(1).cosign(&short, 1_700_000_000);
        signature.bytes.truncate(7);
        short.add(signature);
        assert_eq!(key(1).cosigner_key().cosigned(&short), wrong);
        let mut beyond = note(4);
        beyond.add(key(1).cosign(&beyond, MAX_UNIX_SECONDS + 1));
        assert_eq!(key(1).cosigner_key().cosigned(&beyond), wrong);
    }
}

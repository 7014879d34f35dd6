//! Secrets from a file, the environment or a person who types them unseen.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use crate::failure::advised;

/// Longest secret that is read.
const MAX_SECRET_BYTES: u64 = 4096;

/// Reads the sign-in secret: from the file, from `WRIT_SECRET`, or from the terminal.
pub fn sign_in_secret(file: Option<&Path>) -> Result<String> {
    if let Some(path) = file {
        return from_file(path);
    }
    if let Ok(secret) = std::env::var("WRIT_SECRET") {
        return checked(&secret, "the variable WRIT_SECRET");
    }
    if !io::stdin().is_terminal() {
        return Err(advised(
            "there is no secret to sign in with",
            "give --secret-file FILE, set WRIT_SECRET, or run this on a terminal to be asked for it",
        ));
    }
    let secret = ask_unseen("Secret (shown when the administrator was made): ")?;
    checked(&secret, "what was typed")
}

fn from_file(path: &Path) -> Result<String> {
    let mut text = String::new();
    let name = path.display();
    if path.as_os_str() == "-" {
        io::stdin().take(MAX_SECRET_BYTES).read_to_string(&mut text).context("cannot read the secret")?;
    } else {
        let file = File::open(path).with_context(|| format!("cannot read the secret from {name}"))?;
        file.take(MAX_SECRET_BYTES)
            .read_to_string(&mut text)
            .with_context(|| format!("cannot read the secret from {name}"))?;
    }
    checked(&text, &name.to_string())
}

fn checked(text: &str, place: &str) -> Result<String> {
    let secret = text.trim();
    if secret.is_empty() || secret.contains(char::is_whitespace) {
        return Err(advised(
            format!("{place} holds no secret"),
            "a secret is one word, as it was shown when the administrator was made",
        ));
    }
    Ok(secret.to_owned())
}

/// Asks on the terminal without showing what is typed.
fn ask_unseen(question: &str) -> Result<String> {
    let stdin = io::stdin();
    write!(io::stderr(), "{question}").and_then(|()| io::stderr().flush()).context("cannot ask")?;
    let before = tcgetattr(&stdin).context("cannot read the settings of the terminal")?;
    let mut unseen = before.clone();
    unseen.local_flags.remove(LocalFlags::ECHO);
    unseen.local_flags.insert(LocalFlags::ECHONL);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &unseen).context("cannot hide what is typed")?;
    let mut line = String::new();
    let read = stdin.lock().take(MAX_SECRET_BYTES).read_line(&mut line);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &before).context("cannot restore the terminal")?;
    read.context("cannot read what was typed")?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_word() {
        assert_eq!(checked(" abc\n", "x").unwrap(), "abc");
        for bad in ["", "\n", "two words"] {
            assert!(checked(bad, "x").is_err());
        }
    }

    #[test]
    fn a_secret_is_read_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "s3cret\n").unwrap();
        assert_eq!(sign_in_secret(Some(&path)).unwrap(), "s3cret");
        assert!(sign_in_secret(Some(&dir.path().join("none"))).is_err());
    }
}

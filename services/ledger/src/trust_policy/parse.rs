//! Reading a policy's text, line by line.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::{MAX_POLICY_BYTES, Rule, TrustPolicy, TrustedLog, TrustedWitness};
use crate::checkpoint::parse_decimal;
use crate::key::KeyError;

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is too large.
    #[error("the policy has {0} bytes; at most {MAX_POLICY_BYTES} are read")]
    TooLarge(usize),
    /// A line is not in the format.
    #[error("policy line {line}: {problem}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: LineProblem,
    },
    /// There is no quorum line.
    #[error("the policy has no `quorum` line: `quorum none` demands no cosignature")]
    NoQuorum,
}

/// Why a policy's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// It cannot be read.
    #[error("cannot read the policy {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no policy.
    #[error("{}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PolicyError,
    },
}

/// What is wrong with a line of a policy.
#[derive(Debug, thiserror::Error)]
pub enum LineProblem {
    /// It holds a byte that no policy may hold.
    #[error("control characters other than tab and line break are not allowed")]
    ControlCharacter,
    /// It is not ended by a line break.
    #[error("the last line is not ended by a line break")]
    NotEnded,
    /// It begins with an unknown word.
    #[error("expected `log`, `witness`, `group` or `quorum`, not {0:?}")]
    UnknownWord(String),
    /// It has too few or too many words.
    #[error("expected `{0}`")]
    Shape(&'static str),
    /// The key is none, or of the wrong type.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The same key again.
    #[error("the key was given before")]
    DuplicateKey,
    /// The same name again, or a name that is predefined.
    #[error("the name {0:?} is defined already")]
    DuplicateName(String),
    /// A name that no line before defines.
    #[error("no line before defines {0:?}")]
    UnknownName(String),
    /// A name that is a member twice.
    #[error("{0:?} is a member of a group already")]
    DuplicateMember(String),
    /// A threshold that no choice of members reaches, or that asks for none.
    #[error("the threshold must be `any`, `all` or 1 to {0}, the number of members")]
    Threshold(usize),
    /// A second quorum.
    #[error("there is a `quorum` line already")]
    SecondQuorum,
}

/// Whether a name has been made a member of a group.
struct Defined<'a> {
    name: &'a [u8],
    rule: Rule,
    is_member: bool,
}

#[derive(Default)]
struct Parser<'a> {
    logs: Vec<TrustedLog>,
    witnesses: Vec<TrustedWitness>,
    defined: Vec<Defined<'a>>,
    /// The quorum line, and in it a rule, unless it was `none`.
    quorum: Option<Option<Rule>>,
}

/// Reads no more of a file than it takes to see that it is too large.
pub(super) fn load(path: &Path) -> Result<TrustPolicy, PolicyFileError> {
    let path = path.to_owned();
    let (mut text, limit) = (Vec::new(), MAX_POLICY_BYTES as u64 + 1);
    match File::open(&path).and_then(|file| file.take(limit).read_to_end(&mut text)) {
        Ok(_) => parse(&text).map_err(|source| PolicyFileError::Policy { path, source }),
        Err(source) => Err(PolicyFileError::Unreadable { path, source }),
    }
}

pub(super) fn parse(text: &[u8]) -> Result<TrustPolicy, PolicyError> {
    if text.len() > MAX_POLICY_BYTES {
        return Err(PolicyError::TooLarge(text.len()));
    }
    let mut parser = Parser::default();
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        parser.line(line).map_err(|problem| PolicyError::Line { line: number + 1, problem })?;
    }
    let Parser { logs, witnesses, quorum, .. } = parser;
    Ok(TrustPolicy { logs, witnesses, quorum: quorum.ok_or(PolicyError::NoQuorum)? })
}

impl<'a> Parser<'a> {
    fn line(&mut self, line: &'a [u8]) -> Result<(), LineProblem> {
        let line = line.strip_suffix(b"\n").ok_or(LineProblem::NotEnded)?;
        if line.iter().any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f) {
            return Err(LineProblem::ControlCharacter);
        }
        let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        let Some(first) = words.next() else { return Ok(()) };
        let rest: Vec<&[u8]> = words.collect();
        match first {
            [b'#', ..] => Ok(()),
            b"log" => self.log(&rest),
            b"witness" => self.witness(&rest),
            b"group" => self.group(&rest),
            b"quorum" => self.quorum(&rest),
            other => Err(LineProblem::UnknownWord(shown(other))),
        }
    }

    fn log(&mut self, words: &[&[u8]]) -> Result<(), LineProblem> {
        let (key, url) = match words {
            [key] => (key, None),
            [key, url] => (key, Some(shown(url))),
            _ => return Err(LineProblem::Shape("log <vkey> [<url>]")),
        };
        let log = TrustedLog { key: shown(key).parse()?, url };
        if self.logs.iter().any(|known| known.key.as_bytes() == log.key.as_bytes()) {
            return Err(LineProblem::DuplicateKey);
        }
        self.logs.push(log);
        Ok(())
    }

    fn witness(&mut self, words: &[&'a [u8]]) -> Result<(), LineProblem> {
        let (name, key, url) = match words {
            [name, key] => (*name, key, None),
            [name, key, url] => (*name, key, Some(shown(url))),
            _ => return Err(LineProblem::Shape("witness <name> <vkey> [<url>]")),
        };
        let witness = TrustedWitness { name: shown(name), key: shown(key).parse()?, url };
        if self.witnesses.iter().any(|known| known.key.as_bytes() == witness.key.as_bytes()) {
            return Err(LineProblem::DuplicateKey);
        }
        self.define(name, Rule::Witness(self.witnesses.len()))?;
        self.witnesses.push(witness);
        Ok(())
    }

    fn group(&mut self, words: &[&'a [u8]]) -> Result<(), LineProblem> {
        let [name, threshold, members @ ..] = words else {
            return Err(LineProblem::Shape("group <name> any|all|<number> <member>..."));
        };
        let count = members.len();
        let wanted = match *threshold {
            b"any" => Some(1),
            b"all" => Some(count),
            number => parse_decimal(&shown(number)).and_then(|number| usize::try_from(number).ok()),
        };
        let wanted = wanted.filter(|wanted| (1..=count).contains(wanted));
        let wanted = wanted.ok_or(LineProblem::Threshold(count))?;
        let mut rules = Vec::with_capacity(count);
        for member in members {
            let known = self.defined.iter_mut().find(|defined| defined.name == *member);
            let known = known.ok_or_else(|| LineProblem::UnknownName(shown(member)))?;
            if known.is_member {
                return Err(LineProblem::DuplicateMember(shown(member)));
            }
            known.is_member = true;
            rules.push(known.rule.clone());
        }
        self.define(name, Rule::AtLeast(wanted, rules))
    }

    fn quorum(&mut self, words: &[&[u8]]) -> Result<(), LineProblem> {
        let [name] = words else { return Err(LineProblem::Shape("quorum <name>")) };
        if self.quorum.is_some() {
            return Err(LineProblem::SecondQuorum);
        }
        let known = self.defined.iter().find(|defined| defined.name == *name);
        self.quorum = match (known, *name) {
            (Some(defined), _) => Some(Some(defined.rule.clone())),
            (None, b"none") => Some(None),
            (None, name) => return Err(LineProblem::UnknownName(shown(name))),
        };
        Ok(())
    }

    fn define(&mut self, name: &'a [u8], rule: Rule) -> Result<(), LineProblem> {
        if name == b"none" || self.defined.iter().any(|defined| defined.name == name) {
            return Err(LineProblem::DuplicateName(shown(name)));
        }
        self.defined.push(Defined { name, rule, is_member: false });
        Ok(())
    }
}

/// Text for people and for keys, which are always UTF-8; names are compared by their bytes.
fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

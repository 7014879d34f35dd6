//! Reading a parsed text into types, with refusals that name the place.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Deref;

use crate::error::{Place, PolicyError};
use crate::hujson::{self, Kind, Member, Step, Value};

/// A policy text and what it parses to.
pub(crate) struct Document<'a> {
    text: &'a str,
    root: Value,
    directives: Vec<Value>,
    /// Positions of the directives that a rule has taken.
    taken: RefCell<BTreeSet<usize>>,
    unsupported: RefCell<Vec<Unsupported>>,
}

/// Something that the engine understands and the product does not enforce yet.
#[derive(Debug, Clone)]
pub(crate) struct Unsupported {
    pub(crate) offset: usize,
    pub(crate) what: String,
}

impl<'a> Document<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, PolicyError> {
        let parsed = hujson::parse(text)?;
        Ok(Self {
            text,
            root: parsed.root,
            directives: parsed.directives,
            taken: RefCell::default(),
            unsupported: RefCell::default(),
        })
    }

    /// What the comments of the text say to us, in order.
    pub(crate) fn directives(&self) -> &[Value] {
        &self.directives
    }

    /// What a comment directly in the braces of an object says to us.
    pub(crate) fn take_directive(&self, entry: &Value) -> Result<Option<&Value>, PolicyError> {
        let members = self.object(entry)?;
        let is_inside = |outer: &Value, inner: &Value| outer.start < inner.start && inner.end < outer.end;
        let own = self.directives.iter().enumerate().filter(|(_, directive)| {
            is_inside(entry, directive) && !members.iter().any(|member| is_inside(&member.value, directive))
        });
        let mut found = None;
        for (position, directive) in own {
            if found.is_some() {
                return Err(
                    self.refuse_directive(directive, "the rule has such a comment already: write one")
                );
            }
            self.taken.borrow_mut().insert(position);
            found = Some(directive);
        }
        Ok(found)
    }

    /// Refuses a directive that no rule has taken.
    pub(crate) fn check_directives(&self) -> Result<(), PolicyError> {
        let taken = self.taken.borrow();
        match self.directives.iter().enumerate().find(|(position, _)| !taken.contains(position)) {
            None => Ok(()),
            Some((_, directive)) => {
                let message = "conditions stand inside the braces of the rule that they are for";
                Err(self.refuse_directive(directive, message))
            }
        }
    }

    fn refuse_directive(&self, directive: &Value, message: &str) -> PolicyError {
        self.refuse(directive.start, format!("comment `writ:`: {message}"))
    }

    pub(crate) fn root(&self) -> &Value {
        &self.root
    }

    /// Notes something that only the engine understands.
    pub(crate) fn note_unsupported(&self, offset: usize, what: impl Into<String>) {
        self.unsupported.borrow_mut().push(Unsupported { offset, what: what.into() });
    }

    /// What was noted, in order of the text.
    pub(crate) fn into_unsupported(self) -> Vec<Unsupported> {
        let mut noted = self.unsupported.into_inner();
        noted.sort_by_key(|unsupported| unsupported.offset);
        noted
    }

    /// A refusal of whatever stands at a byte of the text.
    ///
    /// The path is found again from the byte, so that reading keeps no paths and only refusals pay for them.
    pub(crate) fn refuse(&self, offset: usize, message: impl Into<String>) -> PolicyError {
        let mut steps = Vec::new();
        locate(&self.root, offset, &mut steps);
        if let Some(directive) = self.directives.iter().find(|d| d.start <= offset && offset < d.end) {
            locate(directive, offset, &mut steps);
        }
        PolicyError::new(Place::of(self.text, offset), hujson::path_text(&steps), message)
    }

    pub(crate) fn object<'v>(&self, value: &'v Value) -> Result<&'v [Member], PolicyError> {
        match &value.kind {
            Kind::Object(members) => Ok(members),
            other => Err(self.unexpected(value, "an object", other)),
        }
    }

    pub(crate) fn array<'v>(&self, value: &'v Value) -> Result<&'v [Value], PolicyError> {
        match &value.kind {
            Kind::Array(items) => Ok(items),
            other => Err(self.unexpected(value, "an array", other)),
        }
    }

    pub(crate) fn string<'v>(&self, value: &'v Value) -> Result<&'v str, PolicyError> {
        match &value.kind {
            Kind::String(text) => Ok(text),
            other => Err(self.unexpected(value, "a string", other)),
        }
    }

    pub(crate) fn boolean(&self, value: &Value) -> Result<bool, PolicyError> {
        match &value.kind {
            Kind::Bool(value) => Ok(*value),
            other => Err(self.unexpected(value, "true or false", other)),
        }
    }

    /// An array whose every item is a string.
    pub(crate) fn strings<'v>(&self, value: &'v Value) -> Result<Vec<Token<'v>>, PolicyError> {
        let items = self.array(value)?;
        items.iter().map(|item| Ok(Token { text: self.string(item)?, offset: item.start })).collect()
    }

    /// A key that this object does not have.
    pub(crate) fn unknown_key<'k>(
        &self,
        member: &Member,
        known: impl IntoIterator<Item = &'k str>,
    ) -> PolicyError {
        self.refuse(member.key_start, format!("the key {:?} is not known here", member.key))
            .with_nearest(&member.key, known)
    }

    fn unexpected(&self, value: &Value, wanted: &str, found: &Kind) -> PolicyError {
        self.refuse(value.start, format!("{wanted} is expected here, not {}", found.name()))
    }
}

/// A text of the file and where it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) offset: usize,
}

impl Deref for Token<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.text
    }
}

fn locate(value: &Value, offset: usize, steps: &mut Vec<Step>) {
    match &value.kind {
        Kind::Object(members) => {
            let inside = members.iter().find(|m| m.key_start <= offset && offset < m.value.end);
            if let Some(member) = inside {
                steps.push(Step::Key(member.key.clone()));
                locate(&member.value, offset, steps);
            }
        }
        Kind::Array(items) => {
            let inside = items.iter().enumerate().find(|(_, item)| item.start <= offset && offset < item.end);
            if let Some((index, item)) = inside {
                steps.push(Step::Index(index));
                locate(item, offset, steps);
            }
        }
        _ => {}
    }
}

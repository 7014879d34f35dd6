//! Changing a policy's text by one thing, with everything else in it left byte for byte as it is.

use crate::document::Document;
use crate::error::PolicyError;
use crate::hujson::{self, Kind, Member, Value};
use crate::rules::{self, RuleRef, Section};
use crate::splice::List;

/// One change of a policy's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Puts a name into a list of names.
    AddName {
        /// The list.
        list: NameList,
        /// The name.
        name: String,
        /// Whether a list that is not there is made. Otherwise it is refused, since it may be a slip.
        create: bool,
    },
    /// Takes a name out of a list of names, which stays if it was the last.
    RemoveName {
        /// The list.
        list: NameList,
        /// The name.
        name: String,
    },
    /// Defines a host, or gives it another address.
    SetHost {
        /// Its name.
        host: String,
        /// An address or a prefix.
        address: String,
    },
    /// Removes a host.
    RemoveHost {
        /// Its name.
        host: String,
    },
    /// Puts a rule behind the others.
    AddRule {
        /// Where it goes.
        section: Section,
        /// The rule, in the language of the file.
        rule: String,
    },
    /// Removes a rule. Those behind it move up by one.
    RemoveRule {
        /// The rule.
        rule: RuleRef,
    },
}

/// A list of names in a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameList {
    /// The users of a group, named as in the file: `group:ops`.
    Group(String),
    /// The owners of a tag, named as in the file: `tag:web`.
    TagOwners(String),
}

impl NameList {
    fn section(&self) -> &'static str {
        match self {
            NameList::Group(_) => "groups",
            NameList::TagOwners(_) => "tagOwners",
        }
    }

    fn key(&self) -> &str {
        match self {
            NameList::Group(key) | NameList::TagOwners(key) => key,
        }
    }
}

/// Changes a text. The result may still be refused when it is read: a group that names nobody known, a rule that names no
/// host any more.
///
/// Refused, with its place in the text as it was, is what names nothing that stands there, or something that does already.
pub fn edit(text: &str, change: &Edit) -> Result<String, PolicyError> {
    let document = Document::parse(text)?;
    let page = Page { text, document: &document, sections: document.object(document.root())? };
    match change {
        Edit::AddName { list, name, create } => page.add_name(list, name, *create),
        Edit::RemoveName { list, name } => page.remove_name(list, name),
        Edit::SetHost { host, address } => page.set_host(host, address),
        Edit::RemoveHost { host } => page.remove_member("hosts", host),
        Edit::AddRule { section, rule } => page.add_rule(*section, rule),
        Edit::RemoveRule { rule } => page.remove_rule(*rule),
    }
}

/// A text that is being changed.
struct Page<'a> {
    text: &'a str,
    document: &'a Document<'a>,
    sections: &'a [Member],
}

impl Page<'_> {
    fn add_name(&self, list: &NameList, name: &str, create: bool) -> Result<String, PolicyError> {
        let (section, key) = (list.section(), list.key());
        let Some(found) = self.find(section, key)? else {
            let members = self.members(section)?;
            let known = members.iter().map(|member| member.key.as_str());
            if !create {
                let refusal = self.missing(section, key).with_help("ask for it to be made, if it is new");
                return Err(refusal.with_nearest(key, known));
            }
            return self.add_member(section, key, &format!("[{}]", quoted(name)));
        };
        if let Some(token) = self.document.strings(&found.value)?.into_iter().find(|token| token.text == name)
        {
            let message = format!("{name:?} stands in {key:?} already");
            return Err(self.document.refuse(token.offset, message));
        }
        self.with(&found.value, &quoted(name))
    }

    fn remove_name(&self, list: &NameList, name: &str) -> Result<String, PolicyError> {
        let (section, key) = (list.section(), list.key());
        let Some(found) = self.find(section, key)? else {
            let members = self.members(section)?;
            let known = members.iter().map(|member| member.key.as_str());
            return Err(self.missing(section, key).with_nearest(key, known));
        };
        let names = self.document.strings(&found.value)?;
        match names.iter().position(|token| token.text == name) {
            Some(position) => self.without(&found.value, position),
            None => {
                let refusal = self.document.refuse(found.value.start, format!("{name:?} is not in {key:?}"));
                Err(refusal.with_nearest(name, names.iter().map(|token| token.text)))
            }
        }
    }

    fn set_host(&self, host: &str, address: &str) -> Result<String, PolicyError> {
        let Some(found) = self.find("hosts", host)? else {
            return self.add_member("hosts", host, &quoted(address));
        };
        Ok(self.in_place_of(&found.value, &quoted(address)))
    }

    fn add_rule(&self, section: Section, rule: &str) -> Result<String, PolicyError> {
        let parsed = hujson::parse(rule).map_err(|error| error.prefixed("the rule to be added"))?;
        let is_object = matches!(parsed.root.kind, Kind::Object(_));
        // What stands around the object, such as a comment to the end of the line, would swallow what comes behind.
        let Some(object) = rule.get(parsed.root.start..parsed.root.end).filter(|_| is_object) else {
            return Err(self.document.refuse(0, "the rule to be added is no object in braces"));
        };
        match rules::member(self.sections, section.key()) {
            Some(found) => {
                self.document.array(&found.value)?;
                self.with(&found.value, object)
            }
            None => self.with_section(section.key(), &format!("[{object}]")),
        }
    }

    fn remove_rule(&self, rule: RuleRef) -> Result<String, PolicyError> {
        let section = rules::member(self.sections, rule.section.key());
        let count = section.map_or(Ok(0), |found| self.document.array(&found.value).map(<[Value]>::len))?;
        match section {
            Some(found) if rule.index < count => self.without(&found.value, rule.index),
            _ => {
                let at = section.map_or(0, |found| found.key_start);
                let message = format!("there is no {rule}: {} has {count} rules", rule.section.key());
                Err(self.document.refuse(at, message).with_help("rules are counted from 0"))
            }
        }
    }

    fn remove_member(&self, section: &str, key: &str) -> Result<String, PolicyError> {
        let members = self.members(section)?;
        let found = rules::member(self.sections, section);
        match found.zip(members.iter().position(|member| member.key == key)) {
            Some((found, position)) => self.without(&found.value, position),
            None => {
                let known = members.iter().map(|member| member.key.as_str());
                Err(self.missing(section, key).with_nearest(key, known))
            }
        }
    }

    fn add_member(&self, section: &str, key: &str, value: &str) -> Result<String, PolicyError> {
        let member = format!("{}: {value}", quoted(key));
        match rules::member(self.sections, section) {
            Some(found) => self.with(&found.value, &member),
            None => self.with_section(section, &format!("{{{member}}}")),
        }
    }

    /// The text with a section more. One that says null is given the value instead.
    fn with_section(&self, section: &str, value: &str) -> Result<String, PolicyError> {
        match self.sections.iter().find(|member| member.key.eq_ignore_ascii_case(section)) {
            Some(null) => Ok(self.in_place_of(&null.value, value)),
            None => self.with(self.document.root(), &format!("{}: {value}", quoted(section))),
        }
    }

    fn members(&self, section: &str) -> Result<&[Member], PolicyError> {
        match rules::member(self.sections, section) {
            Some(found) => self.document.object(&found.value),
            None => Ok(&[]),
        }
    }

    fn find(&self, section: &str, key: &str) -> Result<Option<&Member>, PolicyError> {
        Ok(self.members(section)?.iter().find(|member| member.key == key))
    }

    fn missing(&self, section: &str, key: &str) -> PolicyError {
        let at = rules::member(self.sections, section).map_or(0, |found| found.key_start);
        self.document.refuse(at, format!("there is no {key:?} in {section:?}"))
    }

    fn in_place_of(&self, value: &Value, text: &str) -> String {
        let (before, after) = (self.text.get(..value.start), self.text.get(value.end..));
        [before.unwrap_or(""), text, after.unwrap_or("")].concat()
    }

    fn with(&self, value: &Value, item: &str) -> Result<String, PolicyError> {
        Ok(self.list(value)?.with(item))
    }

    fn without(&self, value: &Value, position: usize) -> Result<String, PolicyError> {
        Ok(self.list(value)?.without(position))
    }

    fn list(&self, value: &Value) -> Result<List<'_>, PolicyError> {
        let refusal = || self.document.refuse(value.start, "a list is expected here");
        List::of(self.text, value).ok_or_else(refusal)
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

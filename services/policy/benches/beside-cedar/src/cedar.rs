//! The same policy and the same requests for the `cedar-policy` crate.
//!
//! A node is an entity below its user, who is below the user's groups, or below its tags. A rule becomes a `permit` with the
//! group in the place of the principal, the tag or node in that of the resource, and its ports in a condition.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request, RestrictedExpression,
};
use writ_policy::{Inventory, Owner};
use writ_schema::NodeId;

/// Cedar with a policy and a network.
pub struct Cedar {
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
    action: EntityUid,
}

impl Cedar {
    /// Translates both.
    pub fn new(policy: &serde_json::Value, inventory: &Inventory) -> Result<Self, String> {
        let text = policies(policy, inventory)?;
        Ok(Self {
            authorizer: Authorizer::new(),
            policies: PolicySet::from_str(&text).map_err(|error| error.to_string())?,
            entities: entities(policy, inventory)?,
            action: uid("Action", "connect")?,
        })
    }

    /// A request, made ready.
    pub fn request(&self, src: &NodeId, dst: &NodeId, port: u16) -> Result<Request, String> {
        let port = ("port".to_owned(), RestrictedExpression::new_long(port.into()));
        let context = Context::from_pairs([port]).map_err(|error| error.to_string())?;
        let (principal, resource) = (uid("Node", src.as_str())?, uid("Node", dst.as_str())?);
        Request::new(principal, self.action.clone(), resource, context, None)
            .map_err(|error| error.to_string())
    }

    /// Decides a request.
    pub fn permits(&self, request: &Request) -> bool {
        let answer = self.authorizer.is_authorized(request, &self.policies, &self.entities);
        answer.decision() == Decision::Allow
    }
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    EntityUid::from_str(&format!("{kind}::{id:?}")).map_err(|error| error.to_string())
}

fn policies(policy: &serde_json::Value, inventory: &Inventory) -> Result<String, String> {
    let holders: HashMap<String, &NodeId> = inventory
        .nodes
        .iter()
        .flat_map(|node| node.addresses.iter().map(move |address| (address.to_string(), &node.id)))
        .collect();
    let mut text = String::new();
    for rule in policy["acls"].as_array().into_iter().flatten() {
        let (Some(src), Some(dst)) = (rule["src"][0].as_str(), rule["dst"][0].as_str()) else {
            return Err("a rule without ends".to_owned());
        };
        let (name, ports) = dst.rsplit_once(':').ok_or("a destination without ports")?;
        let ports: Vec<&str> = ports.split(',').collect();
        let ports = format!("[{}].contains(context.port)", ports.join(", "));
        let (principal, resource, more) = match (src, name) {
            ("autogroup:member", "autogroup:self") => {
                let same = "principal has owner && resource has owner && principal.owner == resource.owner";
                ("principal".to_owned(), "resource".to_owned(), format!("{same} && "))
            }
            (group, name) => {
                let resource = match (name.starts_with("tag:"), holders.get(name)) {
                    (true, _) => format!("resource in Tag::{name:?}"),
                    (false, Some(node)) => format!("resource == Node::{:?}", node.as_str()),
                    // An address that no node has: nobody can be meant.
                    (false, None) => continue,
                };
                (format!("principal in Group::{group:?}"), resource, String::new())
            }
        };
        text.push_str(&format!("permit({principal}, action, {resource}) when {{ {more}{ports} }};\n"));
    }
    Ok(text)
}

fn entities(policy: &serde_json::Value, inventory: &Inventory) -> Result<Entities, String> {
    let mut groups_of: HashMap<&str, HashSet<EntityUid>> = HashMap::new();
    for (group, members) in policy["groups"].as_object().into_iter().flatten() {
        for member in members.as_array().into_iter().flatten().filter_map(|member| member.as_str()) {
            groups_of.entry(member).or_default().insert(uid("Group", group)?);
        }
    }
    let mut entities = Vec::new();
    for user in &inventory.users {
        let parents = groups_of.remove(user.id.as_str()).unwrap_or_default();
        entities.push(Entity::new_no_attrs(uid("User", user.id.as_str())?, parents));
    }
    for node in &inventory.nodes {
        let (parents, attributes) = match &node.owner {
            Owner::User(user) => {
                let user = uid("User", user.as_str())?;
                let owner = RestrictedExpression::new_entity_uid(user.clone());
                (HashSet::from([user]), HashMap::from([("owner".to_owned(), owner)]))
            }
            Owner::Tags(tags) => {
                let tags = tags.iter().map(|tag| uid("Tag", tag)).collect::<Result<_, _>>()?;
                (tags, HashMap::new())
            }
        };
        let entity = Entity::new(uid("Node", node.id.as_str())?, attributes, parents);
        entities.push(entity.map_err(|error| error.to_string())?);
    }
    Entities::from_entities(entities, None).map_err(|error| error.to_string())
}

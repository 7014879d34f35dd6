//! Nodes and the keys they join with.

use async_graphql::{Context, ID, Object, OneofObject, Result, SimpleObject};
use jiff::{SignedDuration, Timestamp};
use writ_schema::event::{NodeOwner, Role};
use writ_schema::keys::SecretHash;
use writ_schema::net::Prefix;
use writ_schema::protocol::EnrolmentTicket;
use writ_schema::{EnrolmentKeyId, Tag, UserId};

use crate::core::Command;
use crate::graphql::Door;
use crate::graphql::caller::Needs;
use crate::graphql::commands::{Done, Prepared, command_id, derived, submit};
use crate::graphql::error::{Code, bad_input, fail};
use crate::graphql::scalars::{Time, read};
use crate::sequencer::SequencerHandle;

/// Longest life of an enrolment key: 90 days.
const MAX_LIFE_SECONDS: u32 = 90 * 24 * 3600;

/// Shortest: a minute, the time that one needs to type it.
const MIN_LIFE_SECONDS: u32 = 60;

/// Most nodes that one key may make.
const MAX_USES: u32 = 1_000;

/// Longest that a command waits for its record: as long as a request may take.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(1);

/// Most tags of a node.
const MAX_TAGS: usize = 16;

/// Whose nodes a key makes.
#[derive(OneofObject)]
pub enum OwnerInput {
    /// A person's, by the pseudonym.
    User(ID),
    /// A person's, by the sign-in name.
    Login(String),
    /// A service's, by its tags.
    Tags(Vec<String>),
}

/// A key was made.
#[derive(SimpleObject)]
pub struct EnrolmentKeyCreated {
    /// Its public name.
    pub enrolment_key: ID,
    /// What is given to `writ-agent up`. It is shown this once and stored nowhere: absent in the answer to a command that was
    /// carried out before the control plane was last started.
    pub ticket: Option<String>,
    /// Until when it can be used.
    pub expires_at: Time,
    /// What was recorded.
    pub done: Done,
}

/// Nodes.
#[derive(Default)]
pub struct NodesMutation;

#[Object]
impl NodesMutation {
    /// Makes a key to join with. Its ticket is shown once.
    #[graphql(guard = "Needs(Role::NetworkAdmin)")]
    async fn create_enrolment_key(
        &self,
        context: &Context<'_>,
        owner: OwnerInput,
        #[graphql(default = 1, desc = "How many nodes may join with it, at most 1,000.")] max_uses: u32,
        #[graphql(default = 3600, desc = "Its life in seconds: a minute to 90 days.")] expires_in: u32,
        command_id: Option<ID>,
    ) -> Result<EnrolmentKeyCreated> {
        if !(MIN_LIFE_SECONDS..=MAX_LIFE_SECONDS).contains(&expires_in) {
            return Err(bad_input(format!(
                "`expiresIn` is {MIN_LIFE_SECONDS} to {MAX_LIFE_SECONDS} seconds, not {expires_in}"
            )));
        }
        if !(1..=MAX_USES).contains(&max_uses) {
            return Err(bad_input(format!("`maxUses` is 1 to {MAX_USES}, not {max_uses}")));
        }
        let owner = find_owner(context, owner)?;
        let id = self::command_id(command_id)?;
        let life = SignedDuration::from_secs(i64::from(expires_in));
        let key = EnrolmentKeyId::from_bytes(derived("enrolment key", &id));
        let prepared = context.data::<Prepared>()?;
        let made_before = context.data::<SequencerHandle>()?.state().enrolment_key(&key).cloned();
        let (secret_hash, expires_at, ticket) = match (prepared.known(&id), made_before) {
            // Its secret is known to whoever got the first answer, and to nobody else.
            (None, Some(before)) => (before.secret_hash, before.expires_at, None),
            _ => {
                let made = prepared.secret(&id)?;
                let expires_at = made.at.checked_add(life);
                let expires_at = expires_at.map_err(|error| bad_input(format!("`expiresIn`: {error}")))?;
                (SecretHash::of(&made.secret), expires_at, Some(ticket(context, &made.secret)?.to_text()))
            }
        };
        let command =
            Command::CreateEnrolmentKey { key: key.clone(), secret_hash, owner, max_uses, expires_at };
        let done = submit(context, &id, command).await?;
        if ticket.is_none() && !fits(&done, expires_at, life) {
            return Err(fail(Code::Conflict, "another life was asked for with this command's id before"));
        }
        Ok(EnrolmentKeyCreated {
            enrolment_key: key.to_string().into(),
            ticket,
            expires_at: expires_at.into(),
            done,
        })
    }

    /// Ends a key before its time.
    #[graphql(guard = "Needs(Role::NetworkAdmin)")]
    async fn revoke_enrolment_key(
        &self,
        context: &Context<'_>,
        enrolment_key: ID,
        command_id: Option<ID>,
    ) -> Result<Done> {
        let id = self::command_id(command_id)?;
        submit(context, &id, Command::RevokeEnrolmentKey { key: read(&enrolment_key)? }).await
    }

    /// Says what a node may carry packets for, in place of what it might before, and revokes what leads through it to anything
    /// else. What it does not offer at the moment may be approved in advance.
    #[graphql(guard = "Needs(Role::NetworkAdmin)")]
    async fn approve_routes(
        &self,
        context: &Context<'_>,
        node: ID,
        #[graphql(desc = "All of them, as `10.20.0.0/16`; at most 64.")] routes: Vec<String>,
        command_id: Option<ID>,
    ) -> Result<Done> {
        let id = self::command_id(command_id)?;
        let routes = routes.iter().map(|route| read::<Prefix>(route)).collect::<Result<_>>()?;
        submit(context, &id, Command::ApproveRoutes { node: read(&node)?, routes }).await
    }

    /// Takes a node out and revokes what it holds, in one commit.
    #[graphql(guard = "Needs(Role::NetworkAdmin)")]
    async fn remove_node(&self, context: &Context<'_>, node: ID, command_id: Option<ID>) -> Result<Done> {
        let id = self::command_id(command_id)?;
        submit(context, &id, Command::RemoveNode { node: read(&node)? }).await
    }
}

/// Whether a key that was made before has the life that is asked for now: it began shortly before its record.
fn fits(done: &Done, expires_at: Timestamp, life: SignedDuration) -> bool {
    let recorded = done.records.first().map(|record| record.time.0);
    let waited = |recorded: Timestamp| recorded.duration_since(expires_at) + life;
    recorded.is_some_and(|recorded| (SignedDuration::ZERO..LONGEST_WAIT).contains(&waited(recorded)))
}

fn find_owner(context: &Context<'_>, owner: OwnerInput) -> Result<NodeOwner> {
    match owner {
        OwnerInput::User(user) => Ok(NodeOwner::User(read::<UserId>(&user)?)),
        OwnerInput::Login(login) => {
            let state = context.data::<SequencerHandle>()?.state();
            let user = state.user_by_login(&login).map(|user| user.id.clone());
            let missing =
                || fail(Code::NotFound, "no user who has not left has this login: create the user first");
            user.map(NodeOwner::User).ok_or_else(missing)
        }
        OwnerInput::Tags(tags) if tags.is_empty() || tags.len() > MAX_TAGS => {
            Err(bad_input(format!("name 1 to {MAX_TAGS} tags, not {}", tags.len())))
        }
        OwnerInput::Tags(tags) => {
            Ok(NodeOwner::Tags(tags.iter().map(|tag| read::<Tag>(tag)).collect::<Result<_>>()?))
        }
    }
}

/// All that a node needs to find and recognise this network, with the secret that lets it in.
fn ticket(context: &Context<'_>, secret: &str) -> Result<EnrolmentTicket> {
    let door = context.data::<Door>()?;
    let state = context.data::<SequencerHandle>()?.state();
    let network = state.network().ok_or_else(|| fail(Code::NotFound, "there is no network yet"))?;
    Ok(EnrolmentTicket {
        server: door.url.clone(),
        network: network.created.network.clone(),
        log_key: network.log_key().to_owned(),
        certificate_sha256: door.certificate_sha256.clone(),
        secret: secret.to_owned(),
    })
}

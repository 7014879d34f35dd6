//! People: making them known, receiving leavers, erasing, revealing.

use async_graphql::{Context, ID, Object, OneofObject, Result, SimpleObject};
use writ_schema::UserId;
use writ_schema::event::Role;
use writ_schema::seal::Quarter;

use crate::core::Command;
use crate::graphql::caller::Needs;
use crate::graphql::commands::{Done, command_id, derived, submit};
use crate::graphql::error::{Code, QueryError, bad_input, fail};
use crate::graphql::scalars::{Time, read};
use crate::graphql::scope::{moment, query};
use crate::graphql::types::{NamedNode, Person};
use crate::sequencer::SequencerHandle;
use crate::views::nodes::{self, NodeFilter};
use crate::views::{MAX_PAGE, Slice, personal};

/// Most persons that are revealed at once.
const MAX_REVEALED: usize = 50;

/// How long a purpose is: a word is none, and nobody reads an essay.
const PURPOSE_CHARS: std::ops::RangeInclusive<usize> = 5..=500;

/// Which person is meant.
#[derive(OneofObject)]
pub enum UserInput {
    /// By the pseudonym.
    User(ID),
    /// By the sign-in name.
    Login(String),
}

/// A user was made.
#[derive(SimpleObject)]
pub struct UserCreated {
    /// The pseudonym.
    pub user: ID,
    /// What was recorded.
    pub done: Done,
}

/// Who stands behind pseudonyms.
#[derive(SimpleObject)]
pub struct Revealed {
    /// The persons.
    pub persons: Vec<Person>,
    /// What was recorded.
    pub done: Done,
}

/// People.
#[derive(Default)]
pub struct PeopleMutation;

#[Object]
impl PeopleMutation {
    /// Makes a person known, under a new pseudonym.
    #[graphql(guard = "Needs(Role::Admin)")]
    async fn create_user(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Sign-in name, an e-mail address: what a policy file calls the person.")]
        login: String,
        display_name: String,
        command_id: Option<ID>,
    ) -> Result<UserCreated> {
        let id = self::command_id(command_id)?;
        let user = UserId::from_bytes(derived("user", &id));
        let command = Command::ProvisionUser { user: user.clone(), login, display_name };
        Ok(UserCreated { user: user.to_string().into(), done: submit(context, &id, command).await? })
    }

    /// A person leaves: disables the user, removes their nodes and revokes what they hold, in one commit.
    #[graphql(guard = "Needs(Role::Admin)")]
    async fn user_leaves(
        &self,
        context: &Context<'_>,
        who: UserInput,
        #[graphql(desc = "When it was decided elsewhere.")] decided_at: Option<Time>,
        command_id: Option<ID>,
    ) -> Result<Done> {
        let id = self::command_id(command_id)?;
        let user = find(context, who)?;
        let command = Command::ReceiveLeaver { user, decided_at: decided_at.map(|time| time.0) };
        submit(context, &id, command).await
    }

    /// Destroys the keys of a person's data, for ever. They must have left.
    #[graphql(guard = "Needs(Role::Admin)")]
    async fn erase_user(&self, context: &Context<'_>, user: ID, command_id: Option<ID>) -> Result<Done> {
        let id = self::command_id(command_id)?;
        submit(context, &id, Command::EraseUser { user: read(&user)? }).await
    }

    /// Destroys the keys of a quarter's connection records, for ever: nobody can read any more whose connections they
    /// were. The quarter must be over.
    #[graphql(guard = "Needs(Role::Owner)")]
    async fn lapse_retention(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "A calendar quarter in UTC, such as 2026q4.")] quarter: String,
        command_id: Option<ID>,
    ) -> Result<Done> {
        let id = self::command_id(command_id)?;
        let quarter = Quarter::try_from(quarter).map_err(bad_input)?;
        submit(context, &id, Command::LapseRetention { quarter }).await
    }

    /// Shows the persons behind pseudonyms. Who asked, about whom and for what is recorded first.
    #[graphql(guard = "Needs(Role::Auditor)")]
    async fn reveal_persons(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "At most 50 pseudonyms.")] users: Vec<ID>,
        #[graphql(desc = "For what, in your words.")] purpose: String,
        command_id: Option<ID>,
    ) -> Result<Revealed> {
        if users.is_empty() || users.len() > MAX_REVEALED {
            return Err(bad_input(format!("name 1 to {MAX_REVEALED} users, not {}", users.len())));
        }
        if !PURPOSE_CHARS.contains(&purpose.trim().chars().count()) {
            return Err(bad_input("state the purpose in 5 to 500 characters: it is recorded"));
        }
        let users = users.iter().map(|user| read(user)).collect::<Result<Vec<UserId>>>()?;
        let id = self::command_id(command_id)?;
        let command = Command::RecordDeanonymised { users: users.clone(), purpose };
        let done = submit(context, &id, command).await?;
        let moment = moment(context, None).await?;
        let persons = query(context, moment, move |lookup| {
            let persons = personal::persons(lookup.connection, &lookup.moment, &users)?.into_iter();
            persons.map(|person| with_nodes(lookup, person)).collect()
        });
        Ok(Revealed { persons: persons.await?, done })
    }
}

/// The user that is meant. Only one who has not left has a login that names them.
fn find(context: &Context<'_>, who: UserInput) -> Result<UserId> {
    match who {
        UserInput::User(user) => read(&user),
        UserInput::Login(login) => {
            let state = context.data::<SequencerHandle>()?.state();
            let user = state.user_by_login(&login).map(|user| user.id.clone());
            user.ok_or_else(|| fail(Code::NotFound, "no user who has not left has this login"))
        }
    }
}

fn with_nodes(
    lookup: &crate::graphql::lookup::Lookup<'_>,
    person: personal::Person,
) -> Result<Person, QueryError> {
    let filter = NodeFilter { owner: Some(person.user.clone()), with_removed: true, ..NodeFilter::default() };
    let slice = Slice::new(MAX_PAGE, None)?;
    let rows = nodes::list(lookup.connection, &lookup.moment, &filter, &slice)?.rows.into_iter();
    let nodes = rows.map(|row| {
        let name = personal::value(lookup.connection, row.joined, "name")?;
        Ok(NamedNode { node: row.node.to_string().into(), name })
    });
    Ok(Person {
        user: person.user.to_string().into(),
        login: person.login.clone(),
        display_name: person.display_name.clone(),
        nodes: nodes.collect::<Result<_, QueryError>>()?,
    })
}

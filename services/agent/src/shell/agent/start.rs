//! Going on from what was verified before this process began.

use std::collections::VecDeque;
use std::path::Path;

use anyhow::{Context as _, Result};
use ed25519_dalek::SigningKey;
use jiff::Timestamp;
use writ_ledger::TrustPolicy;
use writ_schema::keys::IdentityKey;

use super::exit::OFF;
use super::now;
use crate::engine::Engine;
use crate::names::Zone;
use crate::shell::resolver::Resolver;
use crate::shell::sockets::Sockets;
use crate::shell::status::RefusalStatus;
use crate::state::{ChosenExit, Enrolment, StateDir};
use crate::trust::{Membership, StoredLive, Trust};

/// The verified checkpoint, which is verified again, and what was live under it, which is not yet.
pub(super) fn resume_trust(
    state: &StateDir,
    enrolment: &Enrolment,
    identity: &SigningKey,
    policy: Option<&Path>,
) -> Result<(Trust, Option<StoredLive>)> {
    let stored = state
        .trust()?
        .context("the verified checkpoint is missing; remove the state folder and join anew")?;
    let key = enrolment.log_key.parse().context("the stored log key is damaged")?;
    let identity = IdentityKey::of(identity);
    let mut trust = Trust::resume(&enrolment.membership, identity, key, stored)
        .context("the stored checkpoint does not verify")?;
    if let Some(path) = policy {
        trust.demand(TrustPolicy::load(path)?).with_context(|| path.display().to_string())?;
    }
    Ok((trust, state.live()?))
}

/// Takes up what was live and verifies still. Gives what does not.
pub(super) fn take_up(
    engine: &mut Engine,
    trust: &mut Trust,
    kept: Option<StoredLive>,
) -> VecDeque<RefusalStatus> {
    let Some(kept) = kept else { return VecDeque::new() };
    let mut restored = trust.restore(now().wall, kept);
    let refused = std::mem::take(&mut restored.refused);
    tracing::info!(authorizations = restored.authorizations.len(), "what was live before is taken up again");
    engine.handle_restored(now(), restored);
    let refusals = refused.into_iter().take(super::frames::MAX_REFUSALS);
    refusals
        .map(|refusal| {
            tracing::warn!("what was kept is not taken up again: {refusal}");
            RefusalStatus { time: Timestamp::now(), frame: 0, reason: refusal.to_string() }
        })
        .collect()
}

/// The exit node to use: as it is said now, or was before.
pub(super) fn chosen_exit(state: &StateDir, said: Option<&str>) -> Result<Option<ChosenExit>> {
    let before = state.exit_node()?;
    let chosen = match said {
        None => return Ok(before),
        Some(OFF) => {
            state.forget_exit_node()?;
            return Ok(None);
        }
        Some(name) => ChosenExit { name: name.to_owned(), node: None },
    };
    // Which node is meant is known already if it is called as before.
    let chosen = before.filter(|before| before.name == chosen.name).unwrap_or(chosen);
    state.store_exit_node(&chosen)?;
    Ok(Some(chosen))
}

/// Begins to answer for the network's names. Where that cannot be there are none, and the log says why.
pub(super) async fn answer_for_names(membership: &Membership) -> Option<Resolver> {
    let resolver = match Zone::of(membership) {
        Ok(zone) => Resolver::start(membership.address_v4.into(), zone).await,
        Err(error) => Err(error.into()),
    };
    resolver.inspect_err(|error| tracing::warn!("the network's names are not answered for: {error:#}")).ok()
}

/// Listens where peers know this node to listen, unless it is told otherwise or somebody else does.
pub(super) fn bind(asked: u16, before: u16) -> Result<Sockets> {
    if asked != 0 || before == 0 {
        return Sockets::bind(asked);
    }
    Sockets::bind(before).or_else(|error| {
        tracing::info!("the UDP port of before is taken, another is used: {error:#}");
        Sockets::bind(0)
    })
}

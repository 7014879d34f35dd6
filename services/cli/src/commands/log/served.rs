//! The log of a server, tile by tile.

use writ_ledger::tile::{Tile, TileKind, TilePath, TileSource};

use crate::client::Client;
use crate::client_error::ClientError;

/// A server's log, as much of it as whoever is signed in may read.
pub struct Served<'a> {
    client: &'a Client,
}

impl<'a> Served<'a> {
    /// The log of the server that a client talks to.
    pub fn by(client: &'a Client) -> Self {
        Self { client }
    }
}

impl TileSource for Served<'_> {
    type Error = anyhow::Error;

    fn tile(&self, path: &TilePath) -> anyhow::Result<Tile> {
        match self.client.get(&format!("/log/{path}")) {
            Ok(bytes) => Ok(bytes.map_or(Tile::Missing, Tile::Bytes)),
            Err(error) if path.kind() == TileKind::Entries && is_refusal(&error) => Ok(Tile::Withheld),
            Err(error) => Err(error),
        }
    }
}

/// Whoever is signed in may not read records. Any other refusal is no reason to call hashes enough: the log may be damaged.
fn is_refusal(error: &anyhow::Error) -> bool {
    match error.downcast_ref() {
        Some(ClientError::NotSignedIn { .. }) => true,
        Some(ClientError::Refused { code, .. }) => code == "forbidden",
        _ => false,
    }
}

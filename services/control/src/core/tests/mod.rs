//! Tests of decisions and folding together: what is decided is sealed, encoded, read back, opened and folded.

mod connections;
mod golden;
mod golden_scene;
mod joins;
mod people;
mod policies;
mod routes;
mod simulation;
mod world;

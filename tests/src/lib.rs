//! What crosses services: a network lab of namespaces with real NATs, the scene that demonstration and tests
//! share, and the demonstration itself.
//!
//! [`lab`] makes hosts, routers and an "internet" out of network namespaces, and leaves nothing behind.
//! [`demo`] plays the main job on it, step by step, and counts only what it verified. [`natlab`] crosses every pair of
//! NATs with real agents, and holds each pair to what can be reached. [`load`] and [`throughput`] measure.

pub mod demo;
pub mod lab;
pub mod load;
pub mod natlab;
pub mod parts;
pub mod programs;
pub mod throughput;

//! `ErrorClassify` alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod bodies;
mod fuzz;
mod layer;
mod rules;
mod streams;
mod successes;
mod support;
mod transport;
mod vectors;

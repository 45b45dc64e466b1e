//! `ErrorClassify` alone.

mod bodies;
mod fuzz;
mod layer;
mod rules;
mod streams;
mod successes;
mod support;
mod vectors;

//! Each client over a real socket, under the layers.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod allocations;
mod allocations_others;
mod async_openai;
mod axum;
mod hyper;
mod passage;
mod reqwest;
mod reqwest_middleware;
mod reqwest_middleware_attempts;
mod rewritten;
mod tonic;

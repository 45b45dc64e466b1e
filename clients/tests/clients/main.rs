//! Each client over a real socket, under the layers.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod hyper;
mod passage;
mod reqwest;

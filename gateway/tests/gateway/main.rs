//! The gateway over TCP: between a client and a server that write and read their own bytes.

mod access;
mod errors;
mod headers;
mod line;
mod pages;
#[cfg(unix)]
mod program;
mod stop;
mod streams;
mod wire;

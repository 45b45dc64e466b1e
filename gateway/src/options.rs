//! The command line.

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use clap::Parser;
use http::HeaderName;

/// Puts retries, keys and quota pacing in front of an OpenAI-like API, for programs in any language: set their
/// `base_url` to the gateway's address.
///
/// Calls leave at the speed that the API's rate limits allow, wait in line instead of failing with 429, and are sent
/// again where that can help. Whatever is sent passes as it is, and streams stream. The gateway answers GET requests for
/// /, /status.json, /healthz and /metrics itself; every other path is the API's.
#[derive(Clone, Debug, Parser)]
#[command(name = "gateway", version, max_term_width = 100)]
pub struct Options {
    /// The API to call, such as `https://api.openai.com` or `https://api.groq.com/openai/v1`. A path of its own is put
    /// before that of each call, unless the call's has it already. Without an API, a mock one in this process answers.
    #[arg(value_name = "URL")]
    pub upstream: Option<String>,

    /// Where to listen: an IP address and a port, such as `0.0.0.0:8080` for all of this machine's addresses.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Puts the API key from this environment variable on every call, in place of what the caller sent. Only programs
    /// on this machine are then let in, unless there is a token. Given more than once, each call takes a sound key, and one
    /// that is refused or spent is put aside.
    #[arg(long, value_name = "VARIABLE")]
    pub key_from_env: Vec<String>,

    /// The header that the key goes in, alone: `api-key` for Azure, `x-api-key` for Anthropic, `x-goog-api-key` for Gemini.
    /// Without this it goes as `Authorization: Bearer`.
    #[arg(long, value_name = "NAME", requires = "key_from_env")]
    pub key_header: Option<HeaderName>,

    /// Leaves `key`, `api_key`, `apikey` and `access_token` in the query of a call, for an API to which they are something
    /// else. Without this they are the caller's key, and go no further than its headers do.
    #[arg(long, requires = "key_from_env")]
    pub keep_query_keys: bool,

    /// Lets in whoever sends the token in this environment variable as the API key, from wherever, and nobody else.
    #[arg(long, value_name = "VARIABLE", requires = "key_from_env")]
    pub token_from_env: Option<String>,

    /// Sends the key even to an API on another machine that is reached over plain http, where all on the way can read it.
    #[arg(long)]
    pub allow_plain_http: bool,

    /// How often a call is sent at most, the first time included; 1 never sends again. Waiting for quota is no attempt.
    /// As OpenAI's own clients, the gateway sends again what the API may have answered, and billed, before the answer got lost.
    #[arg(long, value_name = "NUMBER", default_value = "3")]
    pub attempts: NonZeroU32,

    /// The longest a call may wait in line for quota, in seconds; one that would wait longer is refused at once, with 429.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds)]
    pub max_wait: Duration,

    /// How many calls may wait in line; one more is refused with 429.
    #[arg(long, value_name = "NUMBER", default_value = "10000")]
    pub max_queue: NonZeroUsize,

    /// How long each attempt may take until the response begins, in seconds, once it has left the line.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds)]
    pub attempt_timeout: Duration,

    /// How much of a request's body is kept to send it again, in KiB. A longer one goes once, and of JSON that is longer the
    /// model is not known.
    #[arg(long, value_name = "KIB", default_value = "4096")]
    pub replay_kib: usize,

    /// How much is kept of all bodies at once, in MiB. A body that finds no room goes once, as a longer one does.
    #[arg(long, value_name = "MIB", default_value = "256")]
    pub replay_total_mib: usize,

    /// How many connections are served at once; more wait until one closes.
    #[arg(long, value_name = "NUMBER", default_value = "10000")]
    pub max_connections: NonZeroUsize,

    /// How long calls may go on after SIGTERM or Ctrl-C, in seconds; those that then have no answer get a 503. Without this
    /// all of them end by themselves, those that wait in line included. A second signal ends them at once.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub grace: Option<Duration>,

    /// Hands on the callers' Accept-Encoding. Without this, answers are asked for uncompressed: of a compressed error
    /// only the status can be read, so that a spent quota looks like a full one.
    #[arg(long)]
    pub accept_encoding: bool,

    /// The mock API's limit of requests a minute.
    #[arg(long, value_name = "NUMBER", default_value = "500", conflicts_with = "upstream")]
    pub mock_rpm: u64,

    /// The mock API's limit of tokens a minute.
    #[arg(long, value_name = "NUMBER", default_value = "200000", conflicts_with = "upstream")]
    pub mock_tpm: u64,

    /// The share of the mock API's answers that are server errors, from 0 to 1.
    #[arg(long, value_name = "SHARE", default_value = "0.01", value_parser = share, conflicts_with = "upstream")]
    pub mock_errors: f64,

    /// The mock API answers at once, instead of after about a second.
    #[arg(long, conflicts_with = "upstream")]
    pub mock_fast: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("not from 0 to 1".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Options::command().debug_assert();
        for bad in [
            "--max-wait=-1",
            "--max-wait=x",
            "--attempts=0",
            "--token-from-env=T",
            "--grace=1e400",
            "--key-header=x-api-key",
            "--mock-errors=1.5",
            "--mock-errors=-0.1",
            "--mock-errors=NaN",
        ] {
            assert!(Options::try_parse_from(["gateway", bad]).is_err(), "{bad}");
        }
        assert!(Options::try_parse_from(["gateway", "--key-from-env=K", "--key-header=a b"]).is_err());
        assert!(Options::try_parse_from(["gateway", "--key-from-env=K", "--key-header=api-key"]).is_ok());
    }

    #[test]
    fn every_flag_is_explained() {
        for argument in Options::command().get_arguments() {
            assert!(argument.get_help().is_some(), "{}", argument.get_id());
        }
    }
}

//! A local reverse proxy that puts the layers of tower-outbound in front of an OpenAI-like API. See `--help`.

use std::{
    fmt::Display,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
};

use clap::Parser;
use gateway::{Gateway, Options, Secrets};
use tokio::net::TcpListener;
use tower::BoxError;
use tower_outbound::mock::{Faults, Limits, MockApi, MockServer};

/// A tenth of a call is memory taken and given back, mostly by another thread than took it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = Options::parse();
    raise_file_limit();
    let is_done = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(run(&options)),
        Err(error) => Err(error.into()),
    };
    match is_done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            complain("stopped with calls still in flight");
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(format_args!("gateway: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Whether all calls ended before the gateway did.
async fn run(options: &Options) -> Result<bool, BoxError> {
    let secrets = Secrets::from_env(options)?;
    let mock = match &options.upstream {
        Some(_) => None,
        None => Some(mock(options).await?),
    };
    let upstream = options.upstream.clone().or_else(|| mock.as_ref().map(MockServer::url)).unwrap_or_default();
    let gateway = Gateway::new(options, &upstream, &secrets)?;
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", options.listen))?;
    let api = if mock.is_some() { "a mock API in this process, at " } else { "" };
    // Whoever started it may not read on.
    let _ = introduce(listener.local_addr()?, &format!("{api}{upstream}"), gateway.base_path(), &secrets);

    let is_done = tokio::select! {
        is_done = gateway.serve(listener, signal()) => is_done?,
        () = twice() => false,
    };
    Ok(is_done)
}

fn introduce(here: SocketAddr, api: &str, base_path: &str, secrets: &Secrets) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening on http://{here}, in front of {api}")?;
    writeln!(out, "  base_url for clients  http://{here}{base_path}")?;
    writeln!(out, "  status page           http://{here}/")?;
    if secrets.keys.is_empty() {
        writeln!(out, "  calls carry their callers' own keys")?;
    }
    let whom = if secrets.token.is_some() { "those who have the token" } else { "programs on this machine" };
    for key in &secrets.keys {
        writeln!(out, "  adds the key {} for {whom}", key.fingerprint())?;
    }
    Ok(())
}

/// Whether or not anybody reads it: a call in flight is not to end by that.
fn complain(of: impl Display) {
    let _ = writeln!(io::stderr(), "{of}");
}

async fn mock(options: &Options) -> Result<MockServer, BoxError> {
    let mut builder = MockApi::builder()
        .limits(Limits::per_minute(options.mock_rpm, options.mock_tpm))
        .faults(Faults::none().server_error(options.mock_errors));
    if !options.mock_fast {
        builder = builder.realistic_latency();
    }
    Ok(builder.build().serve().await?)
}

/// As many open files as the system lets the program have: each call needs one for its caller and one for the API, and
/// many shells give 1,024. What cannot be had is done without.
fn raise_file_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Ctrl-C or SIGTERM.
async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// Who asks a second time wants it now.
async fn twice() {
    signal().await;
    complain("stopping: calls in flight may end (once more to stop at once)");
    signal().await;
}

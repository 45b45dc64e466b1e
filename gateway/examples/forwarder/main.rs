//! The least that a reverse proxy of hyper alone does, to measure the gateway by.
//!
//! `cargo run --release -p gateway --example forwarder -- 127.0.0.1:8081 127.0.0.1:9000`

mod forward;

use tokio::net::TcpListener;
use tower::BoxError;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (listen, upstream) = forward::arguments()?;
    let client = forward::client();
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(forward::serve(stream, client.clone(), upstream.clone()));
    }
}

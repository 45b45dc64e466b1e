//! The same as the example `forwarder`, on a runtime for each core and with the allocator that the gateway has: what is
//! between the two is what the gateway itself takes.

#[path = "../forwarder/forward.rs"]
mod forward;

use std::{future::pending, net::TcpListener, thread};

use tokio::{net::TcpStream, runtime::Builder};
use tower::BoxError;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), BoxError> {
    let (listen, upstream) = forward::arguments()?;
    let mut workers = Vec::new();
    for _ in 0..thread::available_parallelism()?.get() {
        let runtime = Builder::new_current_thread().enable_all().event_interval(200).build()?;
        workers.push((runtime.handle().clone(), forward::client()));
        thread::spawn(move || runtime.block_on(pending::<()>()));
    }
    let listener = TcpListener::bind(listen)?;
    for (handle, client) in workers.iter().cycle() {
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        let (client, upstream) = (client.clone(), upstream.clone());
        handle.spawn(async move {
            if let Ok(stream) = TcpStream::from_std(stream) {
                forward::serve(stream, client, upstream).await;
            }
        });
    }
    Ok(())
}

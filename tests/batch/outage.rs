//! An API that is away for a while: its items wait, or stay for the next run.

use std::{net::SocketAddr, time::Duration};

use tower_outbound::mock::{Faults, MockApi, MockServer};

use super::{
    Folder, KEY, against, assert_answered, items, records,
    resume::{begun, slow},
    run, serve, stderr, totals,
};

/// How it is away: what it answers everybody.
type Away = (u16, fn(Faults, f64) -> Faults);

const OVERLOADED: Away = (503, Faults::unavailable);
const FAILING: Away = (500, Faults::server_error);

fn take_away(api: &MockApi, (_, fault): Away) {
    api.set_faults(fault(Faults::none(), 1.0));
}

#[tokio::test]
async fn it_is_waited_for_and_no_item_is_lost() {
    tokio::join!(waited_for(OVERLOADED), waited_for(FAILING));
}

async fn waited_for(away: Away) {
    let folder = Folder::new(&format!("outage-{}", away.0));
    let (input, output) = (folder.write("in.jsonl", &items(100)), folder.file("out.jsonl"));
    let api = slow();
    let server = serve(&api).await;
    let mut command = against(&server, &input, &output);
    command.args(["--workers", "2"]);
    let child = begun(command, &output, 10).await;
    take_away(&api, away);
    // Two items have six attempts each: with a 13th call one of them is sent after its attempts were used up.
    let refused = || api.counters().by_status.get(&away.0).copied().unwrap_or(0);
    for _ in 0..6_000 {
        if refused() > 12 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(refused() > 12, "{:?}", api.counters());
    api.set_faults(Faults::none());
    let done = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_answered(&output, 100);
}

#[tokio::test]
async fn past_the_patience_what_is_missing_stays_for_the_next_run() {
    tokio::join!(past_patience(OVERLOADED), past_patience(FAILING));
}

async fn past_patience(away: Away) {
    let folder = Folder::new(&format!("patience-{}", away.0));
    let (input, output) = (folder.write("in.jsonl", &items(40)), folder.file("out.jsonl"));
    let api = slow();
    let server = serve(&api).await;
    let impatient = || {
        let mut command = against(&server, &input, &output);
        command.args(["--workers", "4", "--patience", "0"]);
        command
    };
    let child = begun(impatient(), &output, 5).await;
    take_away(&api, away);
    let done = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let said = stderr(&done);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("no good answer from the API") && said.contains(&away.0.to_string()), "{said}");
    let counts = totals(&done);
    let there = records(&output).len() as u64;
    assert_eq!((counts["failed"].as_u64(), counts["missing"].as_u64()), (Some(0), Some(40 - there)));
    assert!(said.contains(&format!("{} items are missing", 40 - there)), "{said}");
    api.set_faults(Faults::none());
    assert_eq!(run(impatient()).await.status.code(), Some(0));
    assert_answered(&output, 40);
}

#[tokio::test]
async fn a_server_that_is_gone_makes_no_errors_of_its_items() {
    let folder = Folder::new("gone");
    let (input, output) = (folder.write("in.jsonl", &items(200)), folder.file("out.jsonl"));
    let api =
        MockApi::builder().keys([KEY]).service_time(Duration::from_millis(20)..=Duration::from_millis(30)).build();
    let server = serve(&api).await;
    let addr = server.addr();
    let mut command = against(&server, &input, &output);
    command.args(["--workers", "4", "--patience", "0"]);
    let child = begun(command, &output, 10).await;
    drop(server);
    let done = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let said = stderr(&done);
    assert_eq!(done.status.code(), Some(1), "{said}");
    let there = records(&output).len() as u64;
    let counts = totals(&done);
    assert_eq!((counts["failed"].as_u64(), counts["missing"].as_u64()), (Some(0), Some(200 - there)), "{said}");
    // And one that was never there is told at once, whatever the patience.
    let briefly = back_at(&api, addr).await;
    let mut command = against(&briefly, &input, &output);
    command.args(["--patience", "3600"]);
    briefly.shutdown().await;
    let done = run(command).await;
    assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
    assert!(stderr(&done).contains("ended early"), "{}", stderr(&done));

    let back = back_at(&api, addr).await;
    let done = run(against(&back, &input, &output)).await;
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_answered(&output, 200);
}

async fn back_at(api: &MockApi, addr: SocketAddr) -> MockServer {
    api.serve_on(addr).await.unwrap()
}

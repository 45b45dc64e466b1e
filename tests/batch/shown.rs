//! What the user sees: the help, the progress, the table, and the figures in it.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    time::Duration,
};

use tower_outbound::mock::{Limit, Limits, MockApi, Script, ok, status};

use super::{Folder, KEY, against, assert_answered, batch, items, run, serve, stderr, totals};

#[tokio::test]
async fn help_explains_each_setting() {
    let mut command = batch();
    command.arg("--help");
    let said = String::from_utf8(run(command).await.stdout).unwrap();
    let (mut flags, mut lines) = (BTreeSet::new(), said.lines().peekable());
    while let Some(line) = lines.next() {
        let flag = line.trim_start().trim_start_matches("-h, ");
        let Some(flag) = line.starts_with(' ').then_some(flag).filter(|flag| flag.starts_with("--")) else { continue };
        let name = flag.split_whitespace().next().unwrap();
        let explained = lines.peek().is_some_and(|next| next.starts_with("          ") && next.trim().len() > 5);
        assert!(explained, "{name} has no explanation in {said}");
        flags.insert(name);
    }
    let known = [
        "--base-url",
        "--compare",
        "--errors",
        "--faults",
        "--help",
        "--input",
        "--items",
        "--json",
        "--output",
        "--patience",
        "--retry-failed",
        "--rpm",
        "--seed",
        "--serve",
        "--tpm",
        "--workers",
    ];
    assert_eq!(flags, known.into());
}

#[tokio::test]
async fn plain_lines_tell_how_far_it_is() {
    let folder = Folder::new("lines");
    let (input, output) = (folder.write("in.jsonl", &items(80)), folder.file("out.jsonl"));
    let limits = Limits::none().requests(Limit::per(40, Duration::from_secs(5))).tokens(Limit::per_minute(1_000_000));
    let api = MockApi::builder().keys([KEY]).limits(limits).build();
    let server = serve(&api).await;
    let done = run(against(&server, &input, &output)).await;
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let said = stderr(&done);
    let lines: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("batch: ")).collect();
    assert!(!lines.is_empty(), "{said}");
    assert!(lines.iter().any(|line| !line.contains(" 0 waiting on quota")), "{said}");
    for line in lines {
        let parts: Vec<&str> = line.split(", ").collect();
        let number = |part: usize, end: &str| -> u64 { parts[part].strip_suffix(end).unwrap().parse().unwrap() };
        let (done, total) = parts[0].strip_suffix(" done").unwrap().split_once('/').unwrap();
        assert!(done.parse::<u64>().unwrap() <= 80 && total == "80", "{line}");
        let _: u64 = number(1, " s to go");
        let under_way = number(2, " in flight") + number(3, " waiting on quota");
        assert!(under_way > 0 && under_way <= 64, "{line}");
        let _: u64 = number(4, " 429s");
        assert!(parts[5].starts_with("requests left ") && parts[5].ends_with("/40"), "{line}");
        assert!(parts[6].starts_with("tokens left ") && parts[6].ends_with("/1000k"), "{line}");
    }
}

#[tokio::test]
async fn that_nobody_reads_along_any_more_makes_no_difference() {
    let folder = Folder::new("unheard");
    let (input, output) = (folder.write("in.jsonl", &items(35)), folder.file("out.jsonl"));
    // Long enough for a line of progress after the reader has gone.
    let api = MockApi::builder().keys([KEY]).limits(Limits::none().requests(Limit::per(20, Duration::from_secs(5))));
    let server = serve(&api.build()).await;
    let mut child = against(&server, &input, &output).spawn().unwrap();
    drop(child.stdout.take());
    let mut first = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("35 items"), "{first}");
    let done = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert_eq!(done.code(), Some(0));
    assert_answered(&output, 35);
}

#[tokio::test]
async fn beside_the_sdk() {
    let mut command = batch();
    command.args(["--items", "6", "--rpm", "60000", "--errors", "0", "--compare", "--json"]);
    let done = run(command).await;
    let said = stderr(&done);
    assert_eq!(done.status.code(), Some(0), "{said}");
    let totals = totals(&done);
    for side in [&totals, &totals["sdk"]] {
        assert_eq!(
            ["items", "ok", "failed", "calls"].map(|name| side[name].as_u64()),
            [6, 6, 0, 6].map(Some),
            "{said}"
        );
    }
    assert!(said.contains("these layers") && said.contains("the SDK's way"), "{said}");
    assert!(totals["sdk"]["sdk"].is_null());
    assert!(totals["sdk"]["peak_mib"].is_null(), "one process, one peak: {totals}");
    if cfg!(target_os = "linux") {
        assert!(totals["peak_mib"].as_f64() > Some(0.0), "{totals}");
        let row = said.lines().find(|line| line.contains("peak memory")).unwrap();
        assert_eq!(row.matches("MiB").count(), 1, "{row}");
    }
}

#[tokio::test]
async fn the_embedded_api_is_as_it_is_told_to_be() {
    let with = |args: &[&str]| {
        let mut command = batch();
        command.args(["--items", "30", "--json"]).args(args);
        run(command)
    };
    // No request fits into one token a minute.
    let tight = with(&["--tpm", "1", "--errors", "0"]).await;
    assert_eq!(totals(&tight)["failed_by_kind"]["request_too_large"], 30, "{}", stderr(&tight));
    assert_eq!(tight.status.code(), Some(1));
    // A third of the calls meet a fault, and each is sent again.
    let faulty = with(&["--errors", "0.1", "--faults", "0.05", "--seed", "3"]).await;
    assert_eq!(faulty.status.code(), Some(0), "{}", stderr(&faulty));
    let counts = totals(&faulty);
    assert_eq!((counts["ok"].as_u64(), counts["calls"].as_u64() > Some(33)), (Some(30), true), "{counts}");
}

#[tokio::test]
async fn ten_thousand_items_and_512_workers_are_few_429s_and_little_memory() {
    let mut command = batch();
    command.args(["--items", "10000", "--workers", "512", "--rpm", "9600", "--json"]);
    let done = run(command).await;
    let said = stderr(&done);
    assert_eq!(done.status.code(), Some(0), "{said}");
    let totals = totals(&done);
    assert_eq!((totals["ok"].as_u64(), totals["failed"].as_u64()), (Some(10_000), Some(0)), "{said}");
    assert!(totals["rejected"].as_u64() < Some(20), "under 0.2 % of the items: {said}");
    if cfg!(target_os = "linux") {
        assert!(totals["peak_mib"].as_f64().unwrap() < 200.0, "{said}");
        assert!(said.contains("peak memory"), "{said}");
    }
}

#[tokio::test]
async fn a_429_is_one_however_its_body_ends() {
    let folder = Folder::new("broken-429");
    let (input, output) = (folder.write("in.jsonl", &items(1)), folder.file("out.jsonl"));
    let script = Script::new().then(status(429).body("x".repeat(100)).cut()).then(ok(r#"{"choices":[]}"#));
    let server = script.serve().await.unwrap();
    let done = run(against(&server, &input, &output)).await;
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let totals = totals(&done);
    assert_eq!((totals["calls"].as_u64(), totals["rejected"].as_u64()), (Some(2), Some(1)), "{totals}");
}

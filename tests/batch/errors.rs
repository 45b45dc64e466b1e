//! Items that fail, and runs that cannot begin.

use std::{fs, process::Command};

use serde_json::{Value, json};
use tower_outbound::mock::MockApi;

use super::{Folder, KEY, against, batch, item, items, records, run, serve, stderr, totals};

#[tokio::test]
async fn bad_lines_are_recorded_with_their_number_and_the_rest_goes_on() {
    let folder = Folder::new("bad-lines");
    let lines = [
        item("a", "good", "one"),
        "{\"custom_id\": \"b\", ".into(),
        String::new(),
        item("a", "good", "the same id"),
        item("c", "gone", "no such model"),
        json!({ "method": "POST", "url": "/v1/chat/completions", "body": {} }).to_string(),
        json!({ "custom_id": "d", "method": "GET", "url": "/v1/models", "body": {} }).to_string(),
        json!({ "custom_id": "e", "method": "POST", "url": "http://elsewhere/", "body": {} }).to_string(),
        json!({ "custom_id": "f", "method": "POST", "url": "/v1/chat/completions", "body": 7 }).to_string(),
        "[]".into(),
        item("g", "good", "last, without a line end"),
    ];
    let (input, output) = (folder.write("in.jsonl", &lines.join("\n")), folder.file("out.jsonl"));
    let api = MockApi::builder().keys([KEY]).models(["good"]).build();
    let server = serve(&api).await;

    let done = run(against(&server, &input, &output)).await;
    assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
    let totals_of = |done| {
        let totals = totals(done);
        ["items", "ok", "failed", "missing"].map(|name| totals[name].as_u64().unwrap())
    };
    assert_eq!(totals_of(&done), [10, 2, 8, 0], "{}", stderr(&done));
    assert_eq!(api.counters().calls, 3);

    let records_now = records(&output);
    assert_eq!(records_now.len(), 10);
    let error_of = |line: u64| {
        let record = records_now.iter().find(|record| record["error"]["line"] == line).unwrap();
        (
            record["custom_id"].as_str(),
            record["error"]["code"].as_str().unwrap(),
            record["response"]["status_code"].as_u64(),
        )
    };
    assert_eq!(error_of(2), (None, "invalid_json_line", None));
    assert_eq!(error_of(4), (Some("a"), "duplicate_custom_id", None));
    assert_eq!(error_of(5), (Some("c"), "not_found", Some(404)));
    assert_eq!(error_of(6), (None, "invalid_custom_id", None));
    assert_eq!(error_of(7), (Some("d"), "invalid_method", None));
    assert_eq!(error_of(8), (Some("e"), "invalid_url", None));
    assert_eq!(error_of(9), (Some("f"), "invalid_body", None));
    assert_eq!(error_of(10), (None, "invalid_json_line", None));
    let answered: Vec<&Value> = records_now.iter().filter(|record| record["error"].is_null()).collect();
    assert_eq!(answered.len(), 2);

    // Again: errors are final, and not recorded a second time.
    let again = run(against(&server, &input, &output)).await;
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(totals_of(&again), [10, 2, 8, 0]);
    assert_eq!((api.counters().calls, records(&output)), (3, records_now));

    // What was wrong is put right: only that is sent.
    let mended = lines.map(|line| line.replace("gone", "good").replace("\"GET\"", "\"POST\""));
    folder.write("in.jsonl", &mended.join("\n"));
    let mut command = against(&server, &input, &output);
    command.arg("--retry-failed");
    let done = run(command).await;
    assert_eq!(done.status.code(), Some(1));
    // `d` is now a POST to a place that takes none.
    assert_eq!(totals_of(&done), [10, 3, 7, 0], "{}", stderr(&done));
    assert_eq!((api.counters().calls, records(&output).len()), (5, 10));
}

/// The program ends with status 2 before it sends anything, and says why.
async fn cannot_begin(mut command: Command, says: &[&str]) {
    command.arg("--json");
    let done = run(command).await;
    let said = stderr(&done);
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(done.stdout.is_empty());
    for part in says {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[tokio::test]
async fn what_cannot_begin_says_why_before_anything_is_sent() {
    let folder = Folder::new("early");
    let input = folder.write("in.jsonl", &items(3));
    let api = MockApi::default();
    let server = serve(&api).await;
    let base = server.url();
    // All that is not the fault at hand is in order, so that nothing else holds it up.
    let with = |input: &std::path::Path, url: &str, key: Option<&str>, args: &[&str]| {
        let mut command = batch();
        command.arg("--input").arg(input).args(["--base-url", url]).args(args);
        key.iter().for_each(|key| _ = command.env("OPENAI_API_KEY", key));
        command
    };
    let sound = |args: &[&str]| with(&input, &base, Some(KEY), args);

    for path in [folder.file("none.jsonl"), folder.file("")] {
        cannot_begin(with(&path, &base, Some(KEY), &[]), &["cannot read the input"]).await;
    }
    let nowhere = folder.file("none/out.jsonl");
    cannot_begin(sound(&["--output", nowhere.to_str().unwrap()]), &["cannot write the output", "none"]).await;
    cannot_begin(sound(&["--output", input.to_str().unwrap()]), &["the same file"]).await;
    let other = folder.write("other.txt", "something else\nand more\n");
    cannot_begin(sound(&["--output", other.to_str().unwrap()]), &["line 1", "no result of a batch"]).await;
    assert_eq!(fs::read_to_string(&other).unwrap(), "something else\nand more\n");
    #[cfg(unix)]
    cannot_begin(with("/dev/null".as_ref(), &base, Some(KEY), &[]), &["--output"]).await;

    cannot_begin(with(&input, &base, None, &[]), &["OPENAI_API_KEY"]).await;
    cannot_begin(with(&input, &base, Some(&format!("\"{KEY}\"")), &[]), &["OPENAI_API_KEY", "quotes"]).await;
    let (query, fragment) = (format!("{base}/v1?version=1"), format!("{base}/v1#top"));
    for url in ["api.openai.com", "ftp://api.openai.com", "http://api.openai.com/v1", "::", &query, &fragment] {
        cannot_begin(with(&input, url, Some(KEY), &[]), &["--base-url"]).await;
    }
    for workers in ["0", "100001", "-1"] {
        cannot_begin(sound(&[&format!("--workers={workers}")]), &["--workers"]).await;
    }
    cannot_begin(sound(&["--rpm", "5"]), &["--rpm", "--base-url"]).await;
    assert_eq!(api.counters().calls, 0);
    // The same with nothing wrong is sent.
    assert_eq!(run(sound(&[])).await.status.code(), Some(0));
    assert_eq!(api.counters().calls, 3);

    for share in ["1.5", "-0.1", "nan", "inf", "much"] {
        for flag in ["--errors", "--faults"] {
            let mut command = batch();
            command.arg(format!("{flag}={share}"));
            cannot_begin(command, &[flag]).await;
        }
    }
}

/// A device that is always full, and endless when read.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_output_that_takes_nothing_ends_the_run() {
    let mut command = batch();
    command.args(["--items", "3", "--json", "--output", "/dev/full"]);
    let done = run(command).await;
    let said = stderr(&done);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("the output cannot be written any further"), "{said}");
}

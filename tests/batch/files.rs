//! The files: what is there, whose it is, and where it leads.

use std::{fs, io::Write, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tower_outbound::mock::MockApi;

use super::{Folder, KEY, against, assert_answered, item, items, records, resume::begun, run, serve, stderr, totals};

fn record(id: &str, status: u16) -> String {
    let error = (status != 200).then(|| json!({ "code": "server", "message": "no", "line": 1 }));
    let response = json!({ "status_code": status, "request_id": "req_1", "body": {} });
    json!({ "id": "batch_req_1", "custom_id": id, "response": response, "error": error }).to_string()
}

#[tokio::test]
async fn a_line_that_is_no_request_does_not_pass_for_the_item_whose_id_it_bears() {
    let folder = Folder::new("bearers");
    let get = |id: &str| item(id, "m", "number 0").replace("POST", "GET");
    let text = [item("id-0", "m", "number 0"), get("id-0"), get("y"), item("y", "m", "y")].join("\n");
    let (input, output) = (folder.write("in.jsonl", &text), folder.file("out.jsonl"));
    let ms = Duration::from_millis;
    let api = MockApi::builder().keys([KEY]).service_time(ms(1_500)..=ms(1_500)).build();
    let server = serve(&api).await;
    // The errors are there at once, and the answer is not.
    let mut child = begun(against(&server, &input, &output), &output, 3).await;
    child.kill().unwrap();
    child.wait().unwrap();
    for _ in 0..2 {
        let done = run(against(&server, &input, &output)).await;
        assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
        let totals = totals(&done);
        assert_eq!(["items", "ok", "failed", "missing"].map(|name| totals[name].as_u64().unwrap()), [4, 1, 3, 0]);
        let mut found: Vec<(u64, String, String)> = records(&output)
            .iter()
            .map(|record| {
                let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
                (
                    record["error"]["line"].as_u64().unwrap_or(0),
                    text(&record["custom_id"]),
                    text(&record["error"]["code"]),
                )
            })
            .collect();
        found.sort();
        let expected = [
            (0, "id-0", ""),
            (2, "id-0", "duplicate_custom_id"),
            (3, "y", "invalid_method"),
            (4, "y", "duplicate_custom_id"),
        ];
        assert_eq!(found, expected.map(|(line, id, code)| (line, id.to_owned(), code.to_owned())));
    }
}

#[tokio::test]
async fn what_is_none_of_ours_stays_as_it_is() {
    let folder = Folder::new("foreign");
    let (input, output) = (folder.write("in.jsonl", &items(2)), folder.file("out.jsonl"));
    let api = MockApi::default();
    let server = serve(&api).await;
    let ours = record("id-0", 200);
    for text in [
        "one line without an end".to_owned(),
        "{".into(),
        r#"{"id":"ba"#.into(),
        r#"{"a":1}"#.into(),
        "[1, 2]".into(),
        " ".into(),
        format!("{ours}\nprecious"),
        format!("{ours}\n{{\"id\": \"something else\""),
        format!("{ours}\n\n{{}}\n"),
    ] {
        fs::write(&output, &text).unwrap();
        let done = run(against(&server, &input, &output)).await;
        assert_eq!(done.status.code(), Some(2), "{text}: {}", stderr(&done));
        assert!(stderr(&done).contains("is no result of a batch"), "{}", stderr(&done));
        assert_eq!(fs::read_to_string(&output).unwrap(), text);
    }
    assert_eq!(api.counters().calls, 0);
    // Half a line of ours is another matter, however short.
    for half in [r#"{"id":"batch_req_7","custom"#, r#"{"id"#] {
        fs::write(&output, format!("{ours}\n{half}")).unwrap();
        let done = run(against(&server, &input, &output)).await;
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
        assert!(stderr(&done).contains("half-written line 2"), "{}", stderr(&done));
        assert_eq!(records(&output).len(), 2);
    }
}

#[tokio::test]
async fn results_of_other_items_are_kept_and_not_counted() {
    let folder = Folder::new("others");
    let input = folder.write("in.jsonl", &format!("\u{feff}\n{}", items(3)));
    let broken = json!({ "code": "invalid_json_line", "message": "no", "line": 77 });
    let broken = json!({ "id": "batch_req_2", "custom_id": null, "response": null, "error": broken });
    let there = format!("{}\n{}\n{broken}\n{}\n", record("other", 200), record("old", 500), record("id-1", 500));
    let output = folder.write("out.jsonl", &there);
    let api = MockApi::default();
    let server = serve(&api).await;
    let counted = |done| {
        let totals = totals(done);
        ["items", "ok", "failed", "skipped", "missing"].map(|name| totals[name].as_u64().unwrap())
    };
    let done = run(against(&server, &input, &output)).await;
    assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
    assert_eq!(counted(&done), [3, 2, 1, 1, 0]);
    let mut command = against(&server, &input, &output);
    command.arg("--retry-failed");
    let done = run(command).await;
    assert_eq!(done.status.code(), Some(0), "old errors of lines and items that are no more do no harm");
    assert_eq!(counted(&done), [3, 3, 0, 2, 0]);
    let kept = fs::read_to_string(&output).unwrap();
    assert!(kept.contains(&record("other", 200)) && kept.contains(&record("old", 500)), "{kept}");
    assert_eq!(records(&output).len(), 5);
}

#[cfg(unix)]
#[tokio::test]
async fn one_file_takes_one_run_at_a_time() {
    let folder = Folder::new("locked");
    let (input, output) = (folder.write("in.jsonl", &items(60)), folder.file("out.jsonl"));
    let link = folder.file("link.jsonl");
    std::os::unix::fs::symlink(&output, &link).unwrap();
    let ms = Duration::from_millis;
    let api = MockApi::builder().keys([KEY]).service_time(ms(100)..=ms(100)).build();
    let server = serve(&api).await;
    let mut command = against(&server, &input, &output);
    command.args(["--workers", "2"]);
    let child = begun(command, &output, 2).await;
    let before = fs::read_to_string(&output).unwrap();
    for path in [&output, &link] {
        let done = run(against(&server, &input, path)).await;
        assert_eq!(done.status.code(), Some(2), "{}", stderr(&done));
        assert!(stderr(&done).contains("another run writes the output"), "{}", stderr(&done));
    }
    assert!(fs::read_to_string(&output).unwrap().starts_with(&before));
    let done = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_answered(&output, 60);
    assert_eq!(api.counters().calls, 60);
}

#[cfg(unix)]
#[tokio::test]
async fn errors_are_taken_out_of_the_file_and_not_of_its_place() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("rewritten");
    let (input, real, link) =
        (folder.write("in.jsonl", &items(2)), folder.file("real.jsonl"), folder.file("out.jsonl"));
    fs::write(&real, format!("{}\n", record("id-1", 500))).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let bystanders = ["out.jsonl.tmp", "real.jsonl.tmp"].map(|name| folder.write(name, "mine"));
    let api = MockApi::default();
    let server = serve(&api).await;
    let mut command = against(&server, &input, &link);
    command.arg("--retry-failed");
    let done = run(command).await;
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    assert_answered(&real, 2);
    for bystander in bystanders {
        assert_eq!(fs::read_to_string(bystander).unwrap(), "mine");
    }
    assert_eq!(fs::read_dir(folder.file("")).unwrap().count(), 5, "nothing is left behind");
}

#[cfg(unix)]
#[tokio::test]
async fn an_input_from_a_pipe_is_read_once() {
    let folder = Folder::new("piped");
    let output = folder.file("out.jsonl");
    let api = MockApi::default();
    let server = serve(&api).await;
    let mut command = against(&server, "/dev/stdin".as_ref(), &output);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(items(30).as_bytes()).unwrap();
    let done = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_answered(&output, 30);
}

#[tokio::test]
async fn a_line_may_be_as_long_as_said() {
    let folder = Folder::new("long");
    let line = |length: usize| {
        let line = item("id-0", "m", "");
        line.replace(r#""content":"""#, &format!(r#""content":"{}""#, "x".repeat(length - line.len())))
    };
    let api = MockApi::builder().body_cap(32 << 20).context_length(u64::MAX).build();
    let server = serve(&api).await;
    for (length, end, ok) in [(16 << 20, "\n", 1), (16 << 20, "\r\n", 1), (16 << 20, "", 1), ((16 << 20) + 1, "\n", 0)]
    {
        let input = folder.write("in.jsonl", &format!("{}{end}", line(length)));
        let output = folder.file("out.jsonl");
        let done = run(against(&server, &input, &output)).await;
        assert_eq!(totals(&done)["ok"], ok, "{}", stderr(&done));
        fs::remove_file(output).unwrap();
    }
}

//! Answers that are none, whatever their status says: nothing of them is taken for a result.

use tower_outbound::mock::{Script, answer, ok, status};

use super::{Folder, against, assert_answered, item, items, records, run, stderr, totals};

/// What answers every question of `items`, as [`assert_answered`] wants it.
fn sound() -> Script {
    Script::new().otherwise(answer(|sent| {
        let body = sent.json().unwrap();
        let said = format!("You said: {}", body["messages"][0]["content"].as_str().unwrap());
        ok(serde_json::json!({ "choices": [{ "message": { "content": said } }] }).to_string())
            .header("x-request-id", "req_1")
    }))
}

fn counted(totals: &serde_json::Value) -> [u64; 4] {
    ["ok", "failed", "missing", "calls"].map(|name| totals[name].as_u64().unwrap())
}

#[tokio::test]
async fn a_redirect_ends_the_run_and_is_no_result() {
    for code in [301, 302, 307] {
        let folder = Folder::new(&format!("redirect-{code}"));
        let (input, output) = (folder.write("in.jsonl", &items(5)), folder.file("out.jsonl"));
        let elsewhere = Script::new().otherwise(status(code).header("location", "http://elsewhere.example/v1/"));
        let server = elsewhere.serve().await.unwrap();
        // The second run finds nothing that the first has taken for a result.
        for _ in 0..2 {
            let mut command = against(&server, &input, &output);
            command.args(["--workers", "1"]);
            let done = run(command).await;
            let said = stderr(&done);
            assert_eq!(done.status.code(), Some(1), "{said}");
            assert!(said.contains("the base URL redirects to http://elsewhere.example/v1/"), "{said}");
            assert_eq!(counted(&totals(&done)), [0, 0, 5, 1], "{said}");
            assert_eq!(records(&output).len(), 0);
        }
        let server = sound().serve().await.unwrap();
        let done = run(against(&server, &input, &output)).await;
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
        assert_answered(&output, 5);
    }
}

#[tokio::test]
async fn a_page_and_half_an_answer_are_sent_again() {
    let folder = Folder::new("no-json");
    let (input, output) = (folder.write("in.jsonl", &items(4)), folder.file("out.jsonl"));
    let script = sound()
        .then(ok("<html>login</html>").header("content-type", "text/html"))
        .then(ok(r#"{"id":"x","choi"#).header("content-type", "application/json"))
        .then(ok(""));
    let server = script.serve().await.unwrap();
    for calls in [7, 0] {
        let done = run(against(&server, &input, &output)).await;
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
        assert_eq!(counted(&totals(&done)), [4, 0, 0, calls], "{}", stderr(&done));
        assert_answered(&output, 4);
    }
}

#[tokio::test]
async fn what_would_come_in_pieces_is_not_sent() {
    let folder = Folder::new("streamed");
    let streamed = |yes: &str| item("a", "m", "x").replace(r#""model""#, &format!(r#""stream":{yes},"model""#));
    let server = sound().serve().await.unwrap();
    for (yes, counts) in [("true", [0, 1, 0, 0]), ("false", [1, 0, 0, 1])] {
        let (input, output) = (folder.write("in.jsonl", &streamed(yes)), folder.file(&format!("{yes}.jsonl")));
        let done = run(against(&server, &input, &output)).await;
        assert_eq!(counted(&totals(&done)), counts, "{}", stderr(&done));
        assert_eq!(records(&output)[0]["error"].is_null(), yes == "false");
    }
}

#[tokio::test]
async fn a_page_for_everybody_is_an_api_that_is_not_well() {
    let folder = Folder::new("page");
    let (input, output) = (folder.write("in.jsonl", &items(3)), folder.file("out.jsonl"));
    let server = Script::new().otherwise(ok("<html>login</html>")).serve().await.unwrap();
    let mut command = against(&server, &input, &output);
    command.args(["--patience", "0"]);
    let done = run(command).await;
    let said = stderr(&done);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("no whole JSON") && said.contains("<html>login"), "{said}");
    assert_eq!(counted(&totals(&done))[..3], [0, 0, 3], "{said}");
    let server = sound().serve().await.unwrap();
    assert_eq!(run(against(&server, &input, &output)).await.status.code(), Some(0));
    assert_answered(&output, 3);
}

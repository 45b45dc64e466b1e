//! The batch example as a user meets it: the built program, its files, its exit status.
#![allow(missing_docs, clippy::unwrap_used)]

mod answers;
mod errors;
mod files;
mod outage;
mod resume;
mod shared;
mod shown;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use serde_json::{Value, json};
use tower_outbound::mock::{MockApi, MockServer};

pub(crate) const KEY: &str = "sk-proj-q7Rt2mXv9LpZ4cWk";

/// The built example, as its sources are now: `cargo test` builds it beside the tests, `cargo test --test batch` alone does
/// not, and would run an old one.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let folder = test.ancestors().nth(2).unwrap();
        let profile = if folder.ends_with("release") { "release" } else { "dev" };
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example", "batch", "--profile", profile, "--target-dir"]);
        assert!(cargo.arg(folder.parent().unwrap()).status().unwrap().success());
        folder.join("examples").join("batch").with_extension(std::env::consts::EXE_EXTENSION)
    })
}

pub(crate) fn batch() -> Command {
    let mut command = Command::new(program());
    command.env_remove("OPENAI_API_KEY").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A folder of this test's own, empty, and gone afterwards.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tower-outbound-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn item(id: &str, model: &str, content: &str) -> String {
    let message = json!({ "role": "user", "content": content });
    let body = json!({ "model": model, "messages": [message], "max_tokens": 10 });
    json!({ "custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body }).to_string()
}

pub(crate) fn items(count: usize) -> String {
    (0..count).map(|n| item(&format!("id-{n}"), "m", &format!("number {n}")) + "\n").collect()
}

/// The program against an API of the test's own.
pub(crate) fn against(server: &MockServer, input: &Path, output: &Path) -> Command {
    let mut command = batch();
    command.env("OPENAI_API_KEY", KEY).args(["--base-url", &format!("{}/v1", server.url()), "--json"]);
    command.arg("--input").arg(input).arg("--output").arg(output);
    command
}

pub(crate) async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The one line on stdout.
pub(crate) fn totals(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().count(), 1, "{text} {}", stderr(output));
    serde_json::from_str(&text).unwrap()
}

pub(crate) fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is whole");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every item is there exactly once, with the answer to its own question.
pub(crate) fn assert_answered(path: &Path, count: usize) {
    let records = records(path);
    let mut seen = HashMap::new();
    for record in &records {
        let id = record["custom_id"].as_str().unwrap();
        assert!(seen.insert(id.to_owned(), ()).is_none(), "{id} is there twice");
        assert_eq!(record["error"], Value::Null, "{record}");
        assert_eq!(record["response"]["status_code"], 200, "{record}");
        assert!(record["response"]["request_id"].as_str().unwrap().starts_with("req_"));
        assert!(record["id"].as_str().unwrap().starts_with("batch_req_"));
        let number = id.strip_prefix("id-").unwrap();
        let said = &record["response"]["body"]["choices"][0]["message"]["content"];
        assert_eq!(said, &format!("You said: number {number}"));
    }
    assert_eq!(records.len(), count);
}

#[tokio::test]
async fn the_embedded_api_answers_every_item_once() {
    let folder = Folder::new("embedded");
    let output = folder.file("out.jsonl");
    let mut command = batch();
    command.args(["--items", "80", "--rpm", "6000", "--seed", "5", "--json", "--output"]).arg(&output);
    let done = run(command).await;
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let totals = totals(&done);
    assert_eq!((&totals["items"], &totals["ok"], &totals["failed"]), (&json!(80), &json!(80), &json!(0)));
    for number in ["calls", "rejected", "elapsed_s", "limit_s", "ratio"] {
        assert!(totals[number].is_number(), "{number} in {totals}");
    }
    let records = records(&output);
    let ids: std::collections::HashSet<&str> =
        records.iter().map(|record| record["custom_id"].as_str().unwrap()).collect();
    assert_eq!((records.len(), ids.len()), (80, 80));
    let said = stderr(&done);
    assert!(said.contains("answered") && said.contains("ratio"), "{said}");
}

#[tokio::test]
async fn bodies_arrive_as_they_stand_in_the_file() {
    let folder = Folder::new("bodies");
    let body = r#"{"model":"m", "zeta": 1.50, "alpha":  [1e2], "messages":[{"role":"user","content":"naïve \u00e9"}]}"#;
    let line = format!(r#"{{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{body}}}"#);
    let input = folder.write("in.jsonl", &format!("\u{feff}{line}\r\n\r\n"));
    let script = tower_outbound::mock::Script::new().then(
        tower_outbound::mock::ok("{\n  \"b\": 1.50,\n  \"a\": \"two  spaces\"\n}").header("x-request-id", "req_1"),
    );
    let server = script.serve().await.unwrap();
    let done = run(against(&server, &input, &folder.file("out.jsonl"))).await;
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    script.assert_paths(["/v1/chat/completions"]);
    script.assert_bodies([body]);
    script.assert_header("authorization", [Some(format!("Bearer {KEY}").as_str())]);
    let text = fs::read_to_string(folder.file("out.jsonl")).unwrap();
    assert!(text.contains(r#""body":{"b":1.50,"a":"two  spaces"}"#), "{text}");
    assert_eq!(totals(&done)["limit_s"], Value::Null, "no limit was told");
}

pub(crate) async fn serve(api: &MockApi) -> MockServer {
    api.serve().await.unwrap()
}

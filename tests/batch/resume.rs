//! A run that ended early, and the one after it.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::Child,
    time::Duration,
};

use tower_outbound::mock::{Limit, Limits, MockApi};

use super::{Folder, KEY, against, assert_answered, items, records, run, serve, stderr, totals};

pub(crate) fn slow() -> MockApi {
    let ms = Duration::from_millis;
    MockApi::builder().keys([KEY]).service_time(ms(20)..=ms(60)).build()
}

async fn wait_for_lines(output: &Path, lines: usize) {
    for _ in 0..1_000 {
        if fs::read_to_string(output).is_ok_and(|text| text.lines().count() >= lines) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{lines} lines did not come");
}

pub(crate) async fn begun(mut command: std::process::Command, output: &Path, lines: usize) -> Child {
    let child = command.spawn().unwrap();
    wait_for_lines(output, lines).await;
    child
}

#[tokio::test]
async fn killed_in_the_middle_it_goes_on_where_it_was() {
    let folder = Folder::new("killed");
    let (input, output) = (folder.write("in.jsonl", &items(400)), folder.file("out.jsonl"));
    let api = slow();
    let server = serve(&api).await;
    for (round, lines) in [40, 120, 200].into_iter().enumerate() {
        let mut command = against(&server, &input, &output);
        command.args(["--workers", "8"]);
        let mut child = begun(command, &output, lines).await;
        child.kill().unwrap();
        child.wait().unwrap();
        // What a kill may leave: half a line, or a whole one without its end.
        let mut file = OpenOptions::new().append(true).open(&output).unwrap();
        match round {
            0 => file.write_all(br#"{"id":"batch_req_1","custom_id":"id-399","response":{"status_co"#).unwrap(),
            1 => {
                let text = fs::read_to_string(&output).unwrap();
                fs::write(&output, text.trim_end()).unwrap();
            }
            _ => {}
        }
    }
    let mut command = against(&server, &input, &output);
    command.args(["--workers", "8"]);
    let done = run(command).await;
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_answered(&output, 400);
    let totals = totals(&done);
    assert_eq!((totals["items"].as_u64(), totals["ok"].as_u64()), (Some(400), Some(400)));
    assert!(totals["skipped"].as_u64().unwrap() >= 200);
    // Three kills, eight calls in flight at each.
    let calls = api.counters().calls;
    assert!(calls <= 400 + 3 * 8 + 3, "{calls} calls");

    let again = run(against(&server, &input, &output)).await;
    assert_eq!(again.status.code(), Some(0));
    assert_eq!(api.counters().calls, calls, "nothing was missing, nothing is sent");
    assert_answered(&output, 400);
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_lets_come_back_what_is_out() {
    let folder = Folder::new("interrupted");
    let (input, output) = (folder.write("in.jsonl", &items(300)), folder.file("out.jsonl"));
    let api = slow();
    // Some wait for quota when it comes.
    api.set_limits(Limits::none().requests(Limit::per(60, Duration::from_secs(3))));
    let server = serve(&api).await;
    let mut command = against(&server, &input, &output);
    command.args(["--workers", "16"]);
    let child = begun(command, &output, 50).await;
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let done = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(done.status.code(), Some(130), "{}", stderr(&done));
    let recorded = records(&output).len() as u64;
    assert_eq!(recorded, api.counters().admitted, "what was paid for is there");
    assert_eq!(totals(&done)["missing"], 300 - recorded);

    api.set_limits(Limits::none());
    assert_eq!(run(against(&server, &input, &output)).await.status.code(), Some(0));
    assert_answered(&output, 300);
    assert_eq!(api.counters().admitted, 300);
}

#[tokio::test]
async fn a_refused_key_or_a_spent_quota_ends_the_run_and_loses_nothing() {
    let folder = Folder::new("refused");
    let (input, output) = (folder.write("in.jsonl", &items(100)), folder.file("out.jsonl"));
    let api = slow();
    let server = serve(&api).await;
    for (spoil, restore, says) in [
        (
            (|api| api.revoke_key(KEY)) as fn(&MockApi),
            (|api| api.restore_key(KEY)) as fn(&MockApi),
            "Incorrect API key",
        ),
        (|api| api.set_credit(Some(30)), |api| api.set_credit(None), "exceeded your current quota"),
    ] {
        spoil(&api);
        let before = api.counters().calls;
        let mut command = against(&server, &input, &output);
        command.args(["--workers", "4"]);
        let done = run(command).await;
        let said = stderr(&done);
        assert_eq!(done.status.code(), Some(1), "{said}");
        assert!(said.contains("ended early") && said.contains(says), "{said}");
        assert!(!said.contains(KEY), "{said}");
        let totals = totals(&done);
        assert_eq!((totals["failed"].as_u64(), totals["items"].as_u64()), (Some(0), Some(100)));
        assert!(api.counters().calls - before <= 30 + 4, "no call is wasted on it");
        restore(&api);
    }
    assert_eq!(records(&output).len(), 30);
    assert_eq!(run(against(&server, &input, &output)).await.status.code(), Some(0));
    assert_answered(&output, 100);
}

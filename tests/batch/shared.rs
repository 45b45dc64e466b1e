//! Several runs at once on one API, each in a process of its own that knows nothing of the others.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::Duration,
};

use tower_outbound::mock::{Faults, Limit, Limits, MockApi};

use super::{Folder, KEY, against, assert_answered, batch, items, run, serve, stderr, totals};

#[tokio::test]
async fn two_share_the_quota_and_both_finish() {
    let folder = Folder::new("shared");
    let ms = Duration::from_millis;
    let api = MockApi::builder()
        .keys([KEY])
        .seed(7)
        .limits(Limits::none().requests(Limit::per(600, Duration::from_secs(6))))
        .faults(Faults::none().server_error(0.01))
        .service_time(ms(20)..=ms(60))
        .retry_after_ms(true)
        .build();
    let server = serve(&api).await;
    let input = folder.write("in.jsonl", &items(450));
    let outputs = [folder.file("one.jsonl"), folder.file("other.jsonl")];
    let runs = outputs.each_ref().map(|output| run(against(&server, &input, output)));
    let [one, other] = runs;
    let (one, other) = tokio::join!(one, other);
    for (done, output) in [one, other].iter().zip(&outputs) {
        assert_eq!(done.status.code(), Some(0), "{}", stderr(done));
        assert_answered(output, 450);
        assert_eq!(totals(done)["ok"], 450);
        assert!(stderr(done).contains("alone on the quota"), "what others used it cannot know: {}", stderr(done));
    }
    let counters = api.counters();
    assert_eq!(counters.admitted - counters.by_status.get(&500).copied().unwrap_or(0), 900);
    // The meter watches what others take over seconds, and here a minute's quota is back in six of them: a tenth of the calls
    // meets a 429 where a storm would be several times all of them.
    assert!(counters.rejected < 225, "{counters:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn one_serves_and_another_comes_to_it() {
    let folder = Folder::new("served");
    let mut command = batch();
    command.args(["--serve", "127.0.0.1:0", "--rpm", "60000", "--errors", "0", "--json"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = said.next().unwrap().unwrap();
    let url = first.split_whitespace().find(|word| word.starts_with("http")).unwrap().trim_end_matches(',').to_owned();
    let hint = said.next().unwrap().unwrap();
    let key = hint.trim().strip_prefix("OPENAI_API_KEY=").and_then(|rest| rest.split(' ').next()).unwrap().to_owned();

    let (input, output) = (folder.write("in.jsonl", &items(40)), folder.file("out.jsonl"));
    let mut command = batch();
    command.env("OPENAI_API_KEY", key).args(["--base-url", &url, "--json", "--input"]).arg(&input);
    command.arg("--output").arg(&output);
    let done = run(command).await;
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_answered(&output, 40);

    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let served = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(served.status.code(), Some(0));
    let account = totals(&served);
    assert_eq!((&account["calls"], &account["admitted"], &account["rejected"]), (&40.into(), &40.into(), &0.into()));
}

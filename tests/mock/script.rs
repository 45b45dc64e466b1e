use std::panic::{AssertUnwindSafe, catch_unwind};

use http::Request;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep, timeout};
use tower::{Service, ServiceExt};
use tower_outbound::mock::{MockErrorKind, Script, answer, dropped, never, ok, status};

use super::{bytes, ms, secs};

fn request(path: &str, body: &str) -> Request<String> {
    Request::post(format!("http://api{path}")).header("x-n", body).body(body.to_owned()).unwrap()
}

fn says(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).unwrap_err();
    panic.downcast_ref::<String>().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn plays_its_answers_in_order_and_remembers_the_calls() {
    let script = Script::new()
        .strict()
        .then(status(429).retry_after(2).body("slow down"))
        .then(dropped())
        .then(ok("fine").header("x-a", 1).header("x-a", 2).delay(ms(250)));

    let response = script.clone().oneshot(request("/a", "one")).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &"2".parse().unwrap()));
    assert_eq!(bytes(response).await.unwrap(), "slow down");
    sleep(secs(2)).await;
    let error = script.clone().oneshot(request("/b", "two")).await.unwrap_err();
    assert_eq!(error.kind(), MockErrorKind::Reset);
    let io = std::error::Error::source(&error).unwrap().downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(io.kind(), std::io::ErrorKind::ConnectionReset);
    sleep(ms(700)).await;
    let response = script.clone().oneshot(request("/a", "three")).await.unwrap();
    assert_eq!(response.headers().get_all("x-a").iter().count(), 2);
    assert_eq!(bytes(response).await.unwrap(), "fine");

    script.assert_done();
    script.assert_sent(3);
    script.assert_paths(["/a", "/b", "/a"]);
    script.assert_bodies(["one", "two", "three"]);
    script.assert_header("x-n", [Some("one"), Some("two"), Some("three")]);
    script.assert_header("x-none", [None; 3]);
    script.assert_times([ms(0), ms(2000), ms(2700)]);
    script.assert_waits([ms(2000), ms(700)]);
    assert_eq!(script.calls()[2].answered, Some(ms(2950)));
}

#[tokio::test(start_paused = true)]
async fn past_the_end_is_said_plainly() {
    let script = Script::new().then(ok("one"));
    script.clone().oneshot(request("/", "")).await.unwrap();
    let error = script.clone().oneshot(request("/x", "")).await.unwrap_err();
    assert_eq!(error.kind(), MockErrorKind::ScriptEnded);
    assert_eq!(error.to_string(), "the script has no answer left: call 1 (POST /x)");
    let said = says(|| script.assert_sent(2));
    assert!(said.contains("the script has no answer left: call 1 (POST /x)"), "{said}");

    let script = Script::new().then(ok("one")).otherwise(status(404));
    for expected in [200, 404, 404] {
        assert_eq!(script.clone().oneshot(request("/", "")).await.unwrap().status(), expected);
    }
    script.assert_sent(3);
}

#[tokio::test(start_paused = true)]
async fn assertions_say_what_was_sent() {
    let script = Script::new().then(ok("")).then(ok(""));
    let mut ask = request("/v1/x", "the body");
    ask.headers_mut().insert("authorization", "Bearer sk-secret".parse().unwrap());
    script.clone().oneshot(ask).await.unwrap();
    for said in [
        says(|| script.assert_done()),
        says(|| script.assert_sent(2)),
        says(|| script.assert_bodies(["other"])),
        says(|| script.assert_waits([secs(1)])),
    ] {
        assert!(said.contains("/v1/x") && said.contains("the body"), "{said}");
        assert!(!said.contains("sk-secret"), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn strict_fails_calls_without_readiness_on_that_clone() {
    let script = Script::new().strict().then(ok("a")).then(ok("b"));
    let mut first = script.clone();
    ServiceExt::<Request<String>>::ready(&mut first).await.unwrap();
    // A clone of a ready service is not ready.
    let error = first.clone().call(request("/", "")).await.unwrap_err();
    assert_eq!(error.kind(), MockErrorKind::NotReady);
    assert_eq!(first.call(request("/", "")).await.unwrap().status(), 200);
    // Nor is one that was called.
    assert_eq!(first.call(request("/", "")).await.unwrap_err().kind(), MockErrorKind::NotReady);
    assert_eq!(script.wrongs().len(), 2);
    assert!(says(|| script.assert_sent(3)).contains("called without being ready"));
}

#[tokio::test(start_paused = true)]
async fn readiness_is_slow_or_never_or_fails() {
    let script = Script::new().ready_after(ms(300)).otherwise(ok(""));
    let start = Instant::now();
    let mut service = script.clone();
    for calls in 1..=2 {
        ServiceExt::<Request<String>>::ready(&mut service).await.unwrap();
        ServiceExt::<Request<String>>::ready(&mut service).await.unwrap();
        service.call(request("/", "")).await.unwrap();
        assert_eq!(start.elapsed(), calls * ms(300));
    }

    let script = Script::new().never_ready_after(1).otherwise(ok(""));
    script.clone().oneshot(request("/", "")).await.unwrap();
    assert!(timeout(secs(1_000), script.clone().oneshot(request("/", ""))).await.is_err());
    script.assert_sent(1);

    let script = Script::new().closed_after(0).otherwise(ok(""));
    let error = script.clone().oneshot(request("/", "")).await.unwrap_err();
    assert_eq!(error.kind(), MockErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn paths_have_scripts_of_their_own() {
    let script = Script::new().on("/v1/e", [status(503), ok("e")]).then(ok("other")).otherwise(status(404));
    let mut seen = Vec::new();
    for path in ["/v1/e?x=1", "/v1/x", "/v1/e", "/v1/e", "/v1/x"] {
        seen.push(script.clone().oneshot(request(path, "")).await.unwrap().status().as_u16());
    }
    assert_eq!(seen, [503, 200, 200, 404, 404]);
    script.assert_done();
}

#[tokio::test(start_paused = true)]
async fn functions_and_silence_and_broken_bodies() {
    let script = Script::new()
        .then(answer(|sent| if sent.text() == "ping" { ok("pong").delay(secs(1)) } else { status(400) }))
        .then(never())
        .then(ok("0123456789").cut())
        .then(ok("0123456789").truncated())
        .then(status(42))
        .then(ok("").header("bad name", ""));
    let start = Instant::now();
    let response = script.clone().oneshot(request("/", "ping")).await.unwrap();
    assert_eq!((start.elapsed(), bytes(response).await.unwrap().as_ref()), (secs(1), b"pong".as_ref()));
    assert!(timeout(secs(60), script.clone().oneshot(request("/", ""))).await.is_err());

    for kind in [MockErrorKind::Reset, MockErrorKind::Truncated] {
        let mut body = script.clone().oneshot(request("/", "")).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "01234");
        assert_eq!(body.frame().await.unwrap().unwrap_err().kind(), kind);
        assert!(body.frame().await.is_none());
    }
    for what in ["42 is no status", "bad name:  is no header"] {
        let error = script.clone().oneshot(request("/", "")).await.unwrap_err();
        assert_eq!(error.kind(), MockErrorKind::BadScript);
        assert!(error.to_string().contains(what), "{error}");
    }
}

/// Else a test of a retry fails by its waits, and does not say that its script is at fault.
#[tokio::test(start_paused = true)]
async fn a_script_that_cannot_be_played_is_against_the_rules() {
    for step in [status(42), ok("").header("bad name", "")] {
        let script = Script::new().then(step);
        script.clone().oneshot(request("/x", "")).await.unwrap_err();
        let said = says(|| script.assert_sent(1));
        assert!(said.contains("cannot be given") && said.contains("call 0 (POST /x)"), "{said}");
    }
    let script = Script::new().then(ok(""));
    script.clone().oneshot(request("/x", &"x".repeat((1 << 20) + 1))).await.unwrap_err();
    assert!(says(|| script.assert_sent(1)).contains("more than 1 MiB"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_assertion_stays_readable() {
    let script = Script::new().otherwise(ok(""));
    for _ in 0..60 {
        script.clone().oneshot(request("/x", &"ä".repeat(100_000))).await.unwrap();
    }
    for said in [says(|| script.assert_sent(2)), says(|| script.assert_bodies(["other"]))] {
        assert!(said.len() < 100_000, "{} bytes", said.len());
        assert!(said.contains("ää…") && said.contains("200000 bytes") && said.contains("10 more"), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_all_time_never_comes() {
    let script = Script::new().then(ok("").delay(std::time::Duration::MAX));
    assert!(timeout(secs(3600), script.clone().oneshot(request("/", ""))).await.is_err());
    script.assert_done();
}

/// As promised: a user's whole test file in 25 lines.
#[test]
fn the_test_files_in_the_docs_are_short() {
    let docs = include_str!("../../src/mock/mod.rs").lines().filter_map(|line| line.strip_prefix("//!"));
    let mut lengths = Vec::new();
    let mut length = None;
    for line in docs.map(str::trim_start) {
        match (line, length) {
            ("```", None) => length = Some(0),
            ("```", Some(lines)) => {
                lengths.push(lines);
                length = None;
            }
            (line, Some(lines)) if line != "#" && !line.starts_with("# ") => length = Some(lines + 1),
            _ => {}
        }
    }
    assert_eq!(lengths.len(), 2);
    assert!(lengths.iter().all(|lines| (15..=25).contains(lines)), "{lengths:?}");
}

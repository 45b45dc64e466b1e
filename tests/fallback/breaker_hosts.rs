//! One breaker for many hosts.

use tower_outbound::{
    fallback::{Breaker, BreakerState},
    mock::{Script, ok, status},
};

use super::{Fallback, send};
use crate::common::{Text, get, secs};

fn to(host: &str) -> http::Request<Text> {
    let mut request = get();
    *request.uri_mut() = format!("https://{host}/").parse().unwrap();
    request
}

#[tokio::test(start_paused = true)]
async fn hosts_are_told_apart() {
    let breaker = Breaker::new().failures(1);
    let layer = Fallback::new().breaker(breaker.clone());
    let down = Script::new().otherwise(status(503));
    let well = Script::new().otherwise(ok("well"));
    send(&layer, &down, to("a.example")).await.unwrap();
    send(&layer, &well, to("b.example")).await.unwrap();
    assert!(send(&layer, &well, to("A.example")).await.is_err(), "the same host");
    send(&layer, &well, to("a.example:8443")).await.unwrap();
    let states: Vec<_> = breaker.snapshot().into_iter().map(|host| (host.host, host.state)).collect();
    let expected = [
        ("a.example".into(), BreakerState::Open),
        ("a.example:8443".into(), BreakerState::Closed),
        ("b.example".into(), BreakerState::Closed),
    ];
    assert_eq!(states, expected);
}

#[tokio::test(start_paused = true)]
async fn it_knows_no_more_hosts_than_its_bound() {
    let breaker = Breaker::new().failures(1).max_hosts(3);
    let layer = Fallback::new().breaker(breaker.clone());
    let down = Script::new().otherwise(status(503));
    let well = Script::new().otherwise(ok("well"));
    send(&layer, &down, to("down.example")).await.unwrap();
    for number in 0..50 {
        send(&layer, &well, to(&format!("{number}.example"))).await.unwrap();
        assert!(breaker.snapshot().len() <= 3);
    }
    assert!(send(&layer, &well, to("down.example")).await.is_err(), "one that is down is not forgotten");
    // While all are down, a new one is not watched.
    for host in ["x.example", "y.example", "z.example", "z.example"] {
        send(&layer, &down, to(host)).await.unwrap();
    }
    assert_eq!(breaker.snapshot().len(), 3);
}

/// No setting and no clock does harm.
#[tokio::test(start_paused = true)]
async fn senseless_settings_do_no_harm() {
    use std::time::Duration;
    for time in [Duration::ZERO, Duration::MAX] {
        let breaker = Breaker::new().failures(0).share(f64::NAN).window(time).open_for(time).max_hosts(usize::MAX);
        let layer = Fallback::new().breaker(breaker.clone()).ready_within(time);
        for _ in 0..10 {
            let _ = send(&layer, &Script::new().otherwise(status(503).retry_after(u64::MAX)), to("a.example")).await;
            tokio::time::advance(secs(100_000.0)).await;
        }
        assert_eq!(breaker.snapshot().len(), 1);
    }
    let none = Breaker::new().max_hosts(0);
    send(&Fallback::new().breaker(none), &Script::new().otherwise(ok("")), to("a.example")).await.unwrap();
}

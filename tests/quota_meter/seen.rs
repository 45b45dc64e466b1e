//! What a snapshot shows beside the usual two limits.

use tower_outbound::{
    limits::Unit,
    nz,
    quota_meter::{Also, Quota, SetBy},
};

use super::{Office, limits, meter, settled};
use crate::common::reply;

/// What there is of each, by name, unit and who set it.
fn shown(more: &[Also]) -> Vec<(&str, Unit, SetBy, f64, f64)> {
    more.iter().map(|also| (&*also.name, also.unit, also.set_by, also.level.limit, also.level.remaining)).collect()
}

#[tokio::test(start_paused = true)]
async fn every_limit_that_the_server_names() {
    let office = Office::new(meter());
    assert_eq!(office.meter.snapshot().more, []);
    let _call = office.call("first");
    settled().await;
    let mut answer = limits(reply(200), "requests", 100, 99, "600ms");
    for (what, limit, left) in
        [("project-tokens", 5_000, 4_000), ("input-tokens", 700, 70), ("project-requests", 60, 6)]
    {
        answer = limits(answer, what, limit, left, "30s");
    }
    office.desk.answer("first", answer).await;
    let snapshot = office.meter.snapshot();
    assert_eq!(snapshot.requests.map(|level| level.limit), Some(100.0));
    assert_eq!(
        shown(&snapshot.more),
        [
            ("project-tokens", Unit::Tokens, SetBy::Server, 5_000.0, 4_000.0),
            ("input-tokens", Unit::InputTokens, SetBy::Server, 700.0, 70.0),
            ("project-requests", Unit::Requests, SetBy::Server, 60.0, 6.0),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_given_stays_when_the_server_names_its_own() {
    let quota = Quota::per_minute(nz!(60)).tokens_per_day(nz!(9_000)).share(0.5);
    let office = Office::with_left(meter().quota(quota), 500, 400).await;
    let snapshot = office.meter.snapshot();
    assert_eq!(snapshot.requests.map(|level| level.limit), Some(500.0));
    assert_eq!(
        shown(&snapshot.more),
        [
            ("given", Unit::Requests, SetBy::Given, 30.0, 29.0),
            ("given", Unit::Tokens, SetBy::Given, 4_500.0, 4_500.0),
            ("requests", Unit::Requests, SetBy::Share, 250.0, 250.0),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn each_that_is_given_has_a_name() {
    let quota = Quota::per_day(nz!(1_000)).requests_per_minute(nz!(15)).tokens_per_minute(nz!(9_000));
    let snapshot = Office::with_left(meter().quota(quota), 500, 400).await.meter.snapshot();
    assert_eq!(
        shown(&snapshot.more),
        [
            ("given-per-minute", Unit::Requests, SetBy::Given, 15.0, 14.0),
            ("given-per-day", Unit::Requests, SetBy::Given, 1_000.0, 999.0),
            ("given", Unit::Tokens, SetBy::Given, 9_000.0, 9_000.0),
        ]
    );
    let untold = meter().quota(quota).snapshot();
    assert_eq!(untold.requests.map(|level| level.limit), Some(15.0), "the shortest");
}

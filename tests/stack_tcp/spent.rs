//! A quota that runs out in the middle of it all.

use tower_outbound::{
    ErrorKind,
    mock::{Faults, Limit, Limits, MockApi},
};

use super::{End, ms, run, wire::Account};

#[tokio::test]
async fn whoever_waits_hears_of_it_and_no_call_is_wasted_on_it() {
    const WORKERS: usize = 32;
    let api = MockApi::builder()
        .seed(6)
        .faults(Faults::each(0.02))
        .limits(Limits::none().requests(Limit::per(200, ms(1_000))))
        .service_time(ms(1)..=ms(20))
        .credit(300)
        .build();
    let account = Account::new(true);
    let ends = run(&api, &account, 600, WORKERS).await;
    account.assert_agrees_with(&api);
    let spent = ends.iter().filter(|end| **end == End::Failed(ErrorKind::QuotaExhausted)).count();
    let answered = ends.iter().filter(|end| **end == End::Answered).count();
    assert!((200..=300).contains(&answered), "{answered}");
    assert!(spent >= 300, "{spent}");
    assert_eq!(api.counters().admitted, 300);
    // Those in the air when it ended.
    assert!(api.counters().quota_exhausted <= WORKERS as u64 + 2, "{:?}", api.counters());
}

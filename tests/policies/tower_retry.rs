//! The same decisions under tower's own `RetryLayer`.

use http::{Method, Request, Response};
use tokio::time::{Instant, sleep};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, retry::RetryLayer, service_fn};
use tower_outbound::{
    Call, Gate, Refused,
    backoff_retry::{Backoff, BackoffRetryLayer, Budget, Idempotent, Repeat, Standard},
    mock::{MockBody, Script, Step, dropped, never, ok, status},
    nz,
};

use super::{ms, played, post, request, secs};

/// The script under tower's retry, with the decisions of `layer`.
fn under_tower(
    layer: &BackoffRetryLayer,
    script: &Script,
) -> impl Service<Request<String>, Response = Response<MockBody>, Error = BoxError> + Clone + use<> {
    ServiceBuilder::new().layer(RetryLayer::new(layer.tower_policy())).map_err(BoxError::from).service(script.clone())
}

fn scripts() -> Vec<Vec<Step>> {
    vec![
        vec![ok("")],
        vec![status(429).retry_after(2), dropped(), ok("")],
        vec![status(503), status(500).delay(ms(300)), status(502), ok("")],
        vec![status(429).retry_after(121)],
        vec![status(429).retry_after(90).delay(secs(5)), status(429).retry_after(90), ok("")],
        vec![dropped(), status(400)],
        vec![status(401)],
        vec![dropped(), dropped(), dropped()],
    ]
}

fn layers() -> Vec<BackoffRetryLayer> {
    let fibonacci = Standard::new().max_attempts(nz!(6)).backoff(Backoff::fibonacci(secs(1)));
    vec![
        BackoffRetryLayer::new(),
        BackoffRetryLayer::openai_sdk(),
        BackoffRetryLayer::aws_standard(),
        BackoffRetryLayer::new().policy(fibonacci).max_wait(secs(3)),
        BackoffRetryLayer::aws_standard().max_elapsed(ms(1500)),
        BackoffRetryLayer::new().repeat(Repeat::All).budget(Budget::retry_tokens(7)),
        BackoffRetryLayer::new().budget(Budget::unlimited()).max_wait(secs(1)),
    ]
}

#[tokio::test(start_paused = true)]
async fn same_script_same_times() {
    // Each with its own budget, and alike.
    for (l, (one, other)) in layers().into_iter().zip(layers()).enumerate() {
        for (s, steps) in scripts().into_iter().enumerate() {
            for method in [Method::GET, Method::POST] {
                let script = |steps: &[Step]| steps.iter().cloned().fold(Script::new().strict(), Script::then);
                let (ours, towers) = (script(&steps), script(&steps));
                let stack = one.clone().hold_jitter(0.7).layer(ours.clone());
                let plain = played(stack, request(method.clone()), &ours).await;
                let stack = under_tower(&other.clone().hold_jitter(0.7), &towers);
                let with_tower = played(stack, request(method.clone()), &towers).await;
                assert_eq!(plain, with_tower, "layer {l}, script {s}, {method}");
            }
        }
    }
}

/// Each call on a service that is used again and again has its own start, and is counted in the budget.
#[tokio::test(start_paused = true)]
async fn a_service_used_again_starts_anew() {
    let layer = BackoffRetryLayer::aws_standard()
        .hold_jitter(1.0)
        .max_elapsed(secs(5))
        .budget(Budget::share_of_traffic(0.5).floor(0.0));
    let script = Script::new().then(status(500)).then(ok("")).then(status(500)).then(status(500)).then(ok(""));
    let mut service = under_tower(&layer, &script);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(service.ready().await.unwrap().call(post()).await.unwrap().status().as_u16());
        sleep(secs(60)).await;
    }
    // One call earns half a retry, two earn one (and a minute later it is gone).
    assert_eq!(statuses, [500, 200, 500]);
    script.assert_sent(3);

    let layer = layer.budget(Budget::unlimited());
    let script = Script::new().then(ok("")).then(status(500)).then(ok(""));
    let mut service = under_tower(&layer, &script);
    for _ in 0..2 {
        let response = service.ready().await.unwrap().call(post()).await.unwrap();
        assert_eq!(response.status(), 200);
        sleep(secs(60)).await;
    }
    script.assert_done();
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_comes_with_the_request_holds() {
    let layer = BackoffRetryLayer::aws_standard().hold_jitter(1.0);
    let script = Script::new().then(status(500)).then(status(500));
    let stack = under_tower(&layer, &script);
    let mut request = post();
    request.extensions_mut().insert(Call::now().with_deadline(Instant::now() + ms(2500)));
    assert_eq!(played(stack, request, &script).await.0, [secs(0), secs(1)]);
    script.assert_done();
}

#[tokio::test(start_paused = true)]
async fn what_a_gate_refused_is_not_sent_again() {
    let calls = std::sync::atomic::AtomicU32::new(0);
    let gate = service_fn(|_| {
        calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let refused: BoxError = Refused::new(Gate::Quota, Some(secs(9)), "no room").into();
        async { Err::<Response<MockBody>, _>(refused) }
    });
    let policy = BackoffRetryLayer::new().tower_policy();
    let mut request = post();
    request.extensions_mut().insert(Idempotent(true));
    let error = RetryLayer::new(policy).layer(gate).oneshot(request).await.unwrap_err();
    assert!(error.is::<Refused>());
    assert_eq!(calls.into_inner(), 1);
}

#[tokio::test(start_paused = true)]
async fn under_a_retry_of_ours_it_stays_out_of_the_way() {
    let script = Script::new().otherwise(status(500));
    let stack = ServiceBuilder::new()
        .layer(BackoffRetryLayer::openai_sdk())
        .layer(RetryLayer::new(BackoffRetryLayer::openai_sdk().tower_policy()))
        .map_err(BoxError::from)
        .service(script.clone());
    played(stack, post(), &script).await;
    script.assert_sent(3);
}

/// Its body is gone with the first sending: nothing is sent without it.
#[tokio::test(start_paused = true)]
async fn a_body_that_went_too_far_is_not_sent_again() {
    use tower_outbound::body::ReplayBody;
    let layer = BackoffRetryLayer::openai_sdk();
    let put = |kept| Request::put("https://api.example/").body(ReplayBody::new("please".to_owned(), kept)).unwrap();
    for (kept, sent) in [(6, 2), (5, 1)] {
        let script = Script::new().then(status(500)).otherwise(ok(""));
        let stack = ServiceBuilder::new()
            .layer(RetryLayer::new(layer.tower_policy()))
            .map_err(BoxError::from)
            .service(script.clone());
        let response = stack.oneshot(put(kept)).await.unwrap();
        assert_eq!(response.status().is_success(), sent == 2);
        script.assert_bodies(vec!["please"; sent]);
    }
}

/// As in the layer: what was taken for a retry that is not sent is there again, and what was sent is paid for.
#[tokio::test(start_paused = true)]
async fn a_retry_that_is_not_sent_gives_back_what_it_took() {
    let budget = std::sync::Arc::new(Budget::retry_tokens(50));
    let layer = BackoffRetryLayer::aws_standard().hold_jitter(1.0).budget(budget.clone());
    for (step, left) in [(never(), 45), (ok(""), 50)] {
        let script = Script::new().then(status(500)).then(step);
        let call = under_tower(&layer, &script).oneshot(post());
        let mut call = std::pin::pin!(call);
        assert!(tokio::time::timeout(ms(500), &mut call).await.is_err());
        assert_eq!(budget.tokens_left(), Some(45), "taken, and not sent yet");
        let _ = tokio::time::timeout(secs(9), &mut call).await;
        script.assert_done();
        assert_eq!(budget.tokens_left(), Some(left));
        if left < 50 {
            // Sent, and its answer not waited for: it is paid for.
            for _ in 0..5 {
                under_tower(&layer, &Script::new().then(ok(""))).oneshot(post()).await.unwrap();
            }
        }
    }
    let script = Script::new().then(status(500));
    let call = under_tower(&layer, &script).oneshot(post());
    assert!(tokio::time::timeout(ms(500), call).await.is_err());
    assert_eq!(budget.tokens_left(), Some(50), "dropped while it waited");
    let closed = Script::new().closed_after(1).then(status(500));
    under_tower(&layer, &closed).oneshot(post()).await.unwrap_err();
    assert_eq!(budget.tokens_left(), Some(50), "never ready again");
}

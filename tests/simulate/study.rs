//! AWS's study of backoff and jitter: <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.

use std::time::Duration;

use tower_outbound::{
    backoff_retry::{Backoff, BackoffRetryLayer, Budget, Jitter, Policy, Repeat, Standard},
    mock::simulate::{Contention, Mean},
    nz,
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The study's base of 5 ms, of which its first wait is the double, up to 2 s.
fn policy(jitter: Option<Jitter>) -> Standard {
    let backoff = match jitter {
        None => Backoff::constant(Duration::ZERO),
        // The first wait is between the base and three times that.
        Some(Jitter::Decorrelated) => Backoff::exponential(ms(5)).cap(ms(2000)).jitter(Jitter::Decorrelated),
        Some(jitter) => Backoff::exponential(ms(10)).cap(ms(2000)).jitter(jitter),
    };
    Standard::new().max_attempts(nz!(u32::MAX)).backoff(backoff)
}

fn mean(clients: u32, policy: &(impl Policy + 'static), seeds: u64) -> Mean {
    (0..seeds).map(|seed| Contention::new(clients).run(policy, seed)).collect()
}

const JITTERS: [Option<Jitter>; 5] =
    [None, Some(Jitter::None), Some(Jitter::Equal), Some(Jitter::Decorrelated), Some(Jitter::Full)];

/// Clients; then, for each jitter, calls made and seconds to finish.
const TABLE: [(u32, [(f64, f64); 5]); 3] = [
    (50, [(688.0, 1.1), (619.0, 35.6), (349.0, 4.3), (376.0, 2.2), (332.0, 2.8)]),
    (100, [(2417.0, 2.0), (1863.0, 63.8), (814.0, 6.7), (1007.0, 4.7), (796.0, 5.0)]),
    (190, [(7997.0, 3.5), (5179.0, 101.8), (1760.0, 9.5), (2424.0, 7.9), (1770.0, 7.5)]),
];

#[test]
fn the_study_comes_out_within_a_tenth() {
    for (clients, expected) in TABLE {
        let line = JITTERS.map(|jitter| mean(clients, &policy(jitter), 2000 / u64::from(clients)));
        println!("{clients}: {}", line.map(|mean| mean.to_string()).join(", "));
        for (mean, (calls, seconds)) in line.into_iter().zip(expected) {
            assert!((mean.attempts / calls - 1.0).abs() < 0.1, "{clients} clients: {mean}, not {calls}");
            let finished = mean.finished.as_secs_f64();
            assert!((finished / seconds - 1.0).abs() < 0.1, "{clients} clients: {mean}, not {seconds} s");
        }
    }
}

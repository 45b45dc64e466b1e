//! What a test says of a script that was played. Each panics, at the caller's line, with what was sent.

use std::{
    fmt::{Debug, Write},
    time::Duration,
};

use super::{Script, sent::Shown};

/// As many items of a list are shown.
const MAX_ITEMS: usize = 50;

/// The beginning of a list, for people.
fn shown<T: Debug>(list: &[T]) -> String {
    match list.get(..MAX_ITEMS) {
        Some(start) if start.len() < list.len() => format!("{start:?} and {} more", list.len() - start.len()),
        _ => format!("{list:?}"),
    }
}

impl Script {
    /// Everything that was sent, for the message of a failed assertion.
    fn told(&self) -> String {
        let mut text = String::new();
        let shared = self.shared();
        for (n, sent) in shared.sent.iter().take(MAX_ITEMS).enumerate() {
            // Writing to a String does not fail.
            let _ = write!(text, "\n  {n}: {sent:?}");
        }
        if let Some(more) = shared.count.checked_sub(MAX_ITEMS).filter(|more| *more > 0) {
            let _ = write!(text, "\n  and {more} more");
        }
        text
    }

    #[track_caller]
    fn assert_rules(&self) {
        let wrongs = self.wrongs();
        assert!(wrongs.is_empty(), "against the rules: {}{}", wrongs.join("; "), self.told());
    }

    #[track_caller]
    fn assert_list<T: PartialEq + Debug>(&self, what: &str, got: &[T], expected: &[T]) {
        self.assert_rules();
        let same = got.iter().zip(expected).take_while(|(got, expected)| got == expected).count();
        assert!(
            got == expected,
            "{what} differ from call {same} on: got {}, expected {}; sent were:{}",
            shown(got),
            shown(expected),
            self.told(),
        );
    }

    /// Exactly so many calls were made.
    ///
    /// # Panics
    /// If not, or if a call went against the rules of the script, as in all assertions.
    #[track_caller]
    pub fn assert_sent(&self, calls: usize) {
        self.assert_rules();
        let count = self.count();
        assert!(count == calls, "{count} calls were made, expected {calls}; sent were:{}", self.told());
    }

    /// The script was played to its end and no further.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn assert_done(&self) {
        self.assert_rules();
        let left = self.left();
        assert!(left == 0, "{left} answers of the script were not asked for; sent were:{}", self.told());
    }

    /// The calls went to these paths, in this order.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn assert_paths<'a>(&self, paths: impl IntoIterator<Item = &'a str>) {
        let got: Vec<String> = self.calls().iter().map(|sent| sent.uri.path().to_owned()).collect();
        let expected: Vec<String> = paths.into_iter().map(str::to_owned).collect();
        self.assert_list("paths", &got, &expected);
    }

    /// The calls had these bodies, in this order.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn assert_bodies<'a>(&self, bodies: impl IntoIterator<Item = &'a str>) {
        let calls = self.calls();
        let got: Vec<Shown<'_>> = calls.iter().map(|sent| Shown(&sent.body)).collect();
        let expected: Vec<Shown<'_>> = bodies.into_iter().map(|body| Shown(body.as_bytes())).collect();
        self.assert_list("bodies", &got, &expected);
    }

    /// The calls had these values of this header, in this order; `None` where it was not there.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn assert_header<'a>(&self, name: &str, values: impl IntoIterator<Item = Option<&'a str>>) {
        let got: Vec<Option<String>> = self.calls().iter().map(|sent| sent.header(name).map(str::to_owned)).collect();
        let expected: Vec<Option<String>> = values.into_iter().map(|value| value.map(str::to_owned)).collect();
        self.assert_list(name, &got, &expected);
    }

    /// The calls were sent at these times, counted from the first.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn assert_times(&self, times: impl IntoIterator<Item = Duration>) {
        let expected: Vec<Duration> = times.into_iter().collect();
        self.assert_list("times", &self.times(), &expected);
    }

    /// The client waited so long before each call but the first; see [`waits`](Self::waits).
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn assert_waits(&self, waits: impl IntoIterator<Item = Duration>) {
        let expected: Vec<Duration> = waits.into_iter().collect();
        self.assert_list("waits", &self.waits(), &expected);
    }
}

//! What a test says of a script that was played. Each panics, at the caller's line, with what was sent.

use std::{fmt::Write, time::Duration};

use super::Script;

impl Script {
    /// Everything that was sent, for the message of a failed assertion.
    fn told(&self) -> String {
        let mut text = String::new();
        for (n, sent) in self.shared().sent.iter().take(50).enumerate() {
            // Writing to a String does not fail.
            let _ = write!(text, "\n  {n}: {sent:?}");
        }
        text
    }

    #[track_caller]
    fn assert_rules(&self) {
        let wrongs = self.wrongs();
        assert!(wrongs.is_empty(), "against the rules: {}{}", wrongs.join("; "), self.told());
    }

    #[track_caller]
    fn assert_list<T: PartialEq + std::fmt::Debug>(&self, what: &str, got: &[T], expected: &[T]) {
        self.assert_rules();
        assert!(got == expected, "{what}: got {got:?}, expected {expected:?}; sent were:{}", self.told());
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
        let got: Vec<String> = self.calls().iter().map(|sent| sent.text().into_owned()).collect();
        let expected: Vec<String> = bodies.into_iter().map(str::to_owned).collect();
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

//! What has a result already, and what the input has had so far.

use std::{
    collections::{HashMap, HashSet},
    io,
};

use crate::{
    input::{Item, Line, Malformed, Source},
    record::{Recorded, fingerprint},
};

/// Models beyond this many are not told apart in the count of them.
const MOST_MODELS: usize = 1_000;

/// What the output holds, and what the input has had so far. An id takes 32 bytes of it, however long it is.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    ids: HashMap<u128, Entry>,
    /// Lines whose error is there.
    lines: HashSet<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Where the id stands in the input, the first time; 0 as long as it has not been read there.
    line: u64,
    /// Whether its result is a good one; `None` where there is no result.
    result: Option<bool>,
}

/// What is to be done about a line of the input.
#[derive(Debug)]
pub(crate) enum Due {
    Send(Item),
    /// Its error is to be recorded.
    Record(Malformed),
    /// Its result is there; whether it is a good one.
    Nothing(bool),
}

/// The input, read through once before anything is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Survey {
    /// Lines that are not blank.
    pub(crate) items: u64,
    /// Those that have a good result already, and those that have another.
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    /// How many models they ask.
    pub(crate) models: usize,
}

impl Ledger {
    /// Reads the input through: what cannot be read is known before anything is sent, and so is how much there is to do.
    pub(crate) fn survey(&mut self, source: &Source) -> io::Result<Survey> {
        let (mut survey, mut models) = (Survey::default(), HashSet::new());
        for line in source.items()? {
            survey.items += 1;
            match self.due(line?) {
                Due::Send(item) if models.len() < MOST_MODELS => {
                    models.insert(fingerprint(&item.model()));
                }
                Due::Send(_) | Due::Record(_) => {}
                Due::Nothing(true) => survey.ok += 1,
                Due::Nothing(false) => survey.failed += 1,
            }
        }
        survey.models = models.len();
        Ok(survey)
    }

    /// The same for the same line, however often it is asked.
    pub(crate) fn due(&mut self, line: Line) -> Due {
        let (number, id) = match &line {
            Ok(item) => (item.line, Some(&item.custom_id)),
            Err(bad) => (bad.line, bad.custom_id.as_ref()),
        };
        // What has an id that is new is known by it, the rest by its line: a line that is no request must not pass for
        // the item whose id it bears.
        if let Some(id) = id {
            let entry = self.ids.entry(fingerprint(id)).or_default();
            if entry.line == 0 {
                entry.line = number;
            }
            if entry.line == number {
                return match (entry.result, line) {
                    (Some(ok), _) => Due::Nothing(ok),
                    (None, Ok(item)) => Due::Send(item),
                    (None, Err(bad)) => Due::Record(bad),
                };
            }
            let bad = Malformed::twice(number, id.clone(), entry.line);
            return self.of_line(bad);
        }
        match line {
            Ok(item) => Due::Send(item),
            Err(bad) => self.of_line(bad),
        }
    }

    fn of_line(&self, bad: Malformed) -> Due {
        if self.lines.contains(&bad.line) { Due::Nothing(false) } else { Due::Record(bad) }
    }

    /// Takes note of what the output has. Says whether it can be a result at all.
    pub(crate) fn note(&mut self, record: &Recorded) -> bool {
        if !record.is_result() {
            return false;
        }
        match (&record.custom_id, record.of_line()) {
            (_, Some(line)) => _ = self.lines.insert(line),
            // Of two results, a good one counts.
            (Some(id), None) => {
                let result = &mut self.ids.entry(fingerprint(id)).or_default().result;
                *result = Some(result.unwrap_or(false) || record.is_ok());
            }
            (None, None) => return false,
        }
        true
    }

    /// Whether this is an error that the input can mend: of a line of it, or of an item of it. Asked after the survey.
    pub(crate) fn is_error_here(&self, record: &Recorded) -> bool {
        match (&record.custom_id, record.of_line()) {
            (_, Some(_)) => true,
            (Some(id), None) => !record.is_ok() && self.ids.get(&fingerprint(id)).is_some_and(|entry| entry.line > 0),
            (None, None) => false,
        }
    }

    /// As if those errors had never been.
    pub(crate) fn forget_errors(&mut self) {
        self.lines.clear();
        for entry in self.ids.values_mut().filter(|entry| entry.line > 0) {
            entry.result = entry.result.filter(|ok| *ok);
        }
    }
}

//! An axis: which values it spans, where it puts them, and its round numbers.

/// One axis of a chart, from one place in the drawing to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    log: bool,
}

/// About so many ticks.
const TICKS: f64 = 6.0;

impl Axis {
    /// Spans the values, and 0 if it is to; an even scale.
    pub(super) fn linear(values: impl Iterator<Item = f64>, with_zero: bool, from: f64, to: f64) -> Self {
        let zero = with_zero.then_some(0.0);
        let (low, high) = span(values.chain(zero)).unwrap_or((0.0, 1.0));
        let step = step(high - low);
        let axis = Self { low, high: if high > low { high } else { low + 1.0 }, from, to, log: false };
        // Up to the next round number, where there is room for one.
        if with_zero && step > 0.0 { Self { high: (axis.high / step).ceil() * step, ..axis } } else { axis }
    }

    /// Spans the values, all above 0, by powers of ten.
    pub(super) fn log(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = span(values.filter(|value| *value > 0.0)).unwrap_or((1.0, 10.0));
        let (low, high) = (low.log10().floor(), high.log10().ceil());
        Self { low, high: if high > low { high } else { low + 1.0 }, from, to, log: true }
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        self.from + (self.to - self.from) * (value - self.low) / (self.high - self.low)
    }

    /// The round numbers on it.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        if self.log {
            let powers = (self.low as i32)..=(self.high as i32);
            return powers.map(|power| 10f64.powi(power)).map(|value| (value, label(value))).collect();
        }
        let step = step(self.high - self.low);
        let first = (self.low / step).ceil();
        (0..=64)
            .map(|number| (first + f64::from(number)) * step)
            .take_while(|value| *value <= self.high + step * 1e-6)
            .map(|value| (value, label(value)))
            .collect()
    }
}

fn span(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |span, value| match span {
        None => Some((value, value)),
        Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
    })
}

/// 1, 2 or 5 times a power of ten, such that a few of them make up the span.
fn step(span: f64) -> f64 {
    let rough = (span / TICKS).clamp(1e-12, 1e300);
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough).unwrap_or(10.0);
    factor * power
}

fn label(value: f64) -> String {
    let text = if value.abs() >= 10.0 { format!("{value:.0}") } else { format!("{value:.3}") };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_places_are_even() {
        let axis = Axis::linear([3.0, 27.0].into_iter(), true, 300.0, 50.0);
        assert_eq!(labels(axis), ["0", "5", "10", "15", "20", "25", "30"]);
        assert_eq!((axis.place(0.0), axis.place(30.0)), (300.0, 50.0));
        assert_eq!(
            labels(Axis::linear([0.0, 0.9].into_iter(), true, 0.0, 1.0)),
            ["0", "0.2", "0.4", "0.6", "0.8", "1"]
        );
    }

    #[test]
    fn powers_of_ten_span_what_there_is() {
        let axis = Axis::log([0.4, 7997.0].into_iter(), 300.0, 50.0);
        assert_eq!(labels(axis), ["0.1", "1", "10", "100", "1000", "10000"]);
        assert!(axis.place(100.0) < axis.place(10.0));
    }

    #[test]
    fn nothing_and_one_value_have_an_axis_too() {
        for values in [vec![], vec![5.0], vec![0.0], vec![1e-300], vec![1e300]] {
            for axis in
                [Axis::linear(values.clone().into_iter(), true, 0.0, 1.0), Axis::log(values.into_iter(), 0.0, 1.0)]
            {
                assert!(axis.place(5.0).is_finite());
                assert!(axis.ticks().len() < 700);
            }
        }
    }
}

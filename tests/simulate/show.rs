//! Results as text and as a drawing.

use std::time::Duration;

use tower_outbound::{
    backoff_retry::BackoffRetryLayer,
    mock::simulate::{Chart, Mean, Outage, Table, page},
};

#[test]
fn a_table_has_a_row_for_each_policy() {
    let run = Outage::new().length(Duration::from_secs(20)).run(&BackoffRetryLayer::new(), 1);
    let text = Table::of([("one", Mean::from_iter([&run])), ("another", Mean::default())]).to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].contains("well again") && lines[1].starts_with("one ") && lines[2].starts_with("another"));
    // In columns: all rows are as long.
    assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
}

#[test]
fn a_drawing_is_sound_whatever_is_drawn() {
    let odd = [(f64::NAN, 1.0), (0.0, f64::INFINITY), (-1.0, -5.0), (1.0, 0.0), (2.0, 1e-9), (3.0, 1e299)];
    for chart in [Chart::new("<b>&\u{1}\"", "", ""), Chart::new("", "", "").log_y()] {
        let chart = chart.line("a < b & \"c\"", odd).line("", []).band("]]>", 3.0, 1.0).band("<i>", -1.0, 2.0);
        let svg = page([&chart, &Chart::new("empty", "x", "y")]);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(!svg.contains("<b>") && !svg.contains("<i>") && !svg.contains("]]>") && !svg.contains('\u{1}'));
        assert_eq!(svg.matches("<g").count(), svg.matches("</g>").count());
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(svg.contains("prefers-color-scheme:dark"));
    }
}

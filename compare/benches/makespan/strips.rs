//! The whole grid in one drawing: a row for each client, a dot for each batch.

use std::fmt::Write;

use crate::{Row, grid::SERVERS, peers::PEERS};

const WIDTH: f64 = 900.0;
const TOP: f64 = 84.0;
const STEP: f64 = 40.0;

const STYLE: &str = "\
.c text{font:13px system-ui,Arial,'DejaVu Sans',sans-serif}.c text.t{font-size:16px;font-weight:600}\
.c text.d{font-size:12px}.c text.o{font-weight:600}.c circle{fill-opacity:.5;stroke-width:.5}.c .m{stroke-width:3}";
/// Background, letters, lesser letters, grid, the row of ours, the dots of ours, of others.
const LIGHT: [&str; 7] = ["#fff", "#1f2328", "#59636e", "#d8dee4", "#ddf4ff", "#0969da", "#bc4c00"];
const DARK: [&str; 7] = ["#0d1117", "#e6edf3", "#9198a1", "#2b3138", "#12273d", "#58a6ff", "#f0883e"];

fn colours([back, text, dim, grid, band, ours, others]: [&str; 7]) -> String {
    format!(
        ".c .bg{{fill:{back}}}.c text{{fill:{text}}}.c text.d{{fill:{dim}}}.c .g{{stroke:{grid}}}.c .b{{fill:{band}}}\
         .c .p0{{fill:{ours};stroke:{ours}}}.c .p1{{fill:{others};stroke:{others}}}"
    )
}

/// One figure of all batches: from the left, the best, to the right.
struct Panel {
    title: &'static str,
    from: f64,
    to: f64,
    ticks: &'static [(f64, &'static str)],
    value: fn(&Row) -> Option<f64>,
    /// From 0 to 1 along the panel.
    place: fn(f64) -> f64,
}

/// Where a batch that was given up is put, by the least time.
const GIVEN_UP: f64 = 18.0;
/// A 429 in so many items is as good as none.
const HARDLY: f64 = 1e-4;

const PANELS: [Panel; 3] = [
    Panel {
        title: "time, by the least possible",
        from: 275.0,
        to: 470.0,
        ticks: &[(1.0, "1"), (1.5, "1.5"), (2.0, "2"), (4.0, "4"), (8.0, "8"), (GIVEN_UP, "never")],
        value: |row| if row.is_done() { row.ratio() } else { Some(GIVEN_UP) },
        place: |ratio| ratio.max(1.0).ln() / GIVEN_UP.ln(),
    },
    Panel {
        title: "items that failed",
        from: 505.0,
        to: 665.0,
        ticks: &[(0.0, "0"), (0.25, "25 %"), (0.5, "50 %"), (0.75, "75 %"), (1.0, "all")],
        value: |row| Some(row.failed()),
        place: |share| share,
    },
    Panel {
        title: "429s an item",
        from: 700.0,
        to: 880.0,
        ticks: &[(0.0, "0"), (0.001, "0.1 %"), (0.01, "1 %"), (0.1, "10 %"), (1.0, "1"), (10.0, "10"), (100.0, "100")],
        value: |row| Some(row.figures.wasted),
        place: |rate| (rate.max(HARDLY) / HARDLY).log10() / 6.0,
    },
];

/// Time, failures and 429s of every batch, client by client.
pub(crate) fn svg(rows: &[Row]) -> String {
    let height = TOP + STEP * PEERS.len() as f64 + 44.0;
    let title = "A batch within a quota: how long it takes, what it loses, what it wastes";
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" class="c" role="img" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"><title>{title}</title><style>{STYLE}{}@media (prefers-color-scheme:dark){{{}}}</style><rect class="bg" width="{WIDTH}" height="{height}"/><text class="t" x="20" y="28">{title}</text>"#,
        colours(LIGHT),
        colours(DARK),
    );
    // Writing to a String does not fail.
    let _ = draw(&mut svg, rows, height);
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, rows: &[Row], height: f64) -> std::fmt::Result {
    let bottom = TOP + STEP * PEERS.len() as f64;
    write!(svg, r#"<rect class="b" x="8" y="{TOP}" width="{}" height="{STEP}" rx="6"/>"#, WIDTH - 16.0)?;
    for panel in &PANELS {
        write!(svg, r#"<text class="o" x="{}" y="58">{}</text>"#, panel.from, panel.title)?;
        for (value, label) in panel.ticks {
            let x = panel.x(*value);
            write!(svg, r#"<path class="g" d="M{x:.1} {TOP}V{bottom}"/>"#)?;
            write!(svg, r#"<text class="d" x="{x:.1}" y="{}" text-anchor="middle">{label}</text>"#, TOP - 8.0)?;
        }
    }
    for (number, (client, _)) in PEERS.iter().enumerate() {
        let middle = TOP + STEP * (number as f64 + 0.5);
        let (text, dot) = if number == 0 { ("o", "p0") } else { ("", "p1") };
        write!(svg, r#"<text class="{text}" x="20" y="{:.1}">{client}</text>"#, middle + 4.5)?;
        for panel in &PANELS {
            let mut values = Vec::new();
            for row in rows.iter().filter(|row| row.cell.client == *client) {
                let Some(value) = (panel.value)(row) else { continue };
                values.push(value);
                // Each server has its own height, so that equal values show as many.
                let server = SERVERS.iter().position(|(name, _)| *name == row.cell.server).unwrap_or_default();
                let y = middle + 3.4 * (server as f64 - (SERVERS.len() - 1) as f64 / 2.0);
                let (x, cell) = (panel.x(value), &row.cell);
                write!(svg, r#"<circle class="{dot}" cx="{x:.1}" cy="{y:.1}" r="3"><title>"#)?;
                write!(
                    svg,
                    "{}, {} a minute, {} workers: {row}</title></circle>",
                    cell.server, cell.requests, cell.workers
                )?;
            }
            values.sort_by(f64::total_cmp);
            // Of an even number the better of the two in the middle.
            if let Some(median) = values.get(values.len().saturating_sub(1) / 2) {
                let (x, y) = (panel.x(*median), middle - 14.0);
                write!(svg, r#"<path class="{dot} m" d="M{x:.1} {y:.1}v28"/>"#)?;
            }
        }
    }
    let span = |value: fn(&Row) -> u64| {
        let (low, high) = (rows.iter().map(value).min().unwrap_or(0), rows.iter().map(value).max().unwrap_or(0));
        if low == high { low.to_string() } else { format!("{low} to {high}") }
    };
    write!(
        svg,
        r#"<text class="d" x="20" y="{}">A dot is a batch, a bar the median: {} servers, {} requests a minute, {} workers. No time is shown where over half the items failed.</text>"#,
        height - 16.0,
        SERVERS.iter().filter(|(server, _)| rows.iter().any(|row| row.cell.server == *server)).count(),
        span(|row| row.cell.requests),
        span(|row| row.cell.workers as u64),
    )
}

impl Panel {
    fn x(&self, value: f64) -> f64 {
        self.from + (self.to - self.from) * (self.place)(value).clamp(0.0, 1.0)
    }
}

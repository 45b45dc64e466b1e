//! Results drawn: [`Chart`], an SVG that needs nothing else.

use std::fmt::Write;

use super::axis::Axis;

/// Lines over two axes, with a legend; readable in light and dark, and without colour.
///
/// ```
/// use tower_outbound::mock::simulate::Chart;
///
/// let chart = Chart::new("Load on the server", "seconds", "attempts a call")
///     .line("full jitter", [(0.0, 1.0), (10.0, 2.5), (20.0, 1.0)])
///     .band("outage", 5.0, 15.0);
/// assert!(chart.svg().starts_with("<svg"));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a chart is drawn by svg()"]
pub struct Chart {
    title: String,
    x: String,
    y: String,
    lines: Vec<(String, Vec<(f64, f64)>)>,
    bands: Vec<(String, f64, f64)>,
    log: bool,
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 360.0;
/// Where the lines are: from the left, the top, the right, the bottom.
const LEFT: f64 = 70.0;
const TOP: f64 = 50.0;
const RIGHT: f64 = 640.0;
const BOTTOM: f64 = 300.0;
/// Colours come round again after so many lines; then with other dashes.
const COLOURS: usize = 6;
const DASHES: [&str; 4] = ["none", "7 4", "2 4", "10 4 2 4"];

/// Shapes and letters, whatever the colours.
const STYLE: &str = "\
.c text{font:13px system-ui,sans-serif}.c text.t{font-size:16px;font-weight:600}.c text.d{font-size:12px}\
.c polyline,.c .k{fill:none;stroke-width:2;stroke-linejoin:round}.c circle{stroke-width:2}";
/// Background, letters, lesser letters and axes, grid, bands, and the lines: colours that tell apart for the colour-blind
/// too. Written out twice, since not every viewer knows variables.
const LIGHT: [&str; 11] = [
    "#fff", "#1f2328", "#59636e", "#d8dee4", "#fde8c8", "#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989",
    "#57606a",
];
const DARK: [&str; 11] = [
    "#0d1117", "#e6edf3", "#9198a1", "#2b3138", "#3a2d12", "#58a6ff", "#f0883e", "#3fb950", "#bc8cff", "#f778ba",
    "#b1bac4",
];

fn colours([back, text, dim, grid, band, lines @ ..]: [&str; 11]) -> String {
    let mut css = format!(
        ".c .bg,.c circle{{fill:{back}}}.c text{{fill:{text}}}.c text.d{{fill:{dim}}}.c .a{{stroke:{dim};fill:none}}\
         .c .g{{stroke:{grid}}}.c .b{{fill:{band}}}"
    );
    for (number, line) in lines.iter().enumerate() {
        css.push_str(&format!(".c .l{number}{{stroke:{line}}}"));
    }
    css
}

impl Chart {
    /// An empty one, with a title and what its axes mean.
    pub fn new(title: impl Into<String>, x: impl Into<String>, y: impl Into<String>) -> Self {
        let (title, x, y) = (title.into(), x.into(), y.into());
        Self { title, x, y, lines: Vec::new(), bands: Vec::new(), log: false }
    }

    /// Adds a line. Points that cannot be drawn, such as NaN, are left out.
    pub fn line(mut self, name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let points = points.into_iter().filter(|(x, y)| x.abs() < 1e300 && y.abs() < 1e300);
        self.lines.push((name.into(), points.collect()));
        self
    }

    /// Marks a part of the x axis.
    pub fn band(mut self, name: impl Into<String>, from: f64, to: f64) -> Self {
        if from.abs() < 1e300 && to.abs() < 1e300 && from <= to {
            self.bands.push((name.into(), from, to));
        }
        self
    }

    /// A logarithmic y axis, for values that are many times one another. What is not above 0 is left out.
    pub fn log_y(mut self) -> Self {
        self.log = true;
        self
    }

    /// The drawing.
    #[must_use]
    pub fn svg(&self) -> String {
        page([self])
    }

    fn draw(&self, svg: &mut String) -> std::fmt::Result {
        let points = || self.lines.iter().flat_map(|(_, points)| points).filter(|(_, y)| !self.log || *y > 0.0);
        let ends = self.bands.iter().flat_map(|(_, from, to)| [*from, *to]);
        let x = Axis::linear(points().map(|(x, _)| *x).chain(ends), false, LEFT, RIGHT);
        let ys = points().map(|(_, y)| *y);
        let y = if self.log { Axis::log(ys, BOTTOM, TOP) } else { Axis::linear(ys, true, BOTTOM, TOP) };

        write!(svg, r#"<rect class="bg" width="{WIDTH}" height="{HEIGHT}"/>"#)?;
        write!(svg, r#"<text class="t" x="{LEFT}" y="26">{}</text>"#, escape(&self.title))?;
        for (name, from, to) in &self.bands {
            let (from, to) = (x.place(*from), x.place(*to));
            let (width, height) = (to - from, BOTTOM - TOP);
            write!(svg, r#"<rect class="b" x="{from:.1}" y="{TOP}" width="{width:.1}" height="{height}"/>"#)?;
            write!(svg, r#"<text class="d" x="{:.1}" y="{}">{}</text>"#, from + 5.0, TOP + 14.0, escape(name))?;
        }
        for (value, label) in y.ticks() {
            let at = y.place(value);
            write!(svg, r#"<path class="g" d="M{LEFT} {at:.1}H{RIGHT}"/>"#)?;
            write!(svg, r#"<text class="d" x="{}" y="{:.1}" text-anchor="end">{label}</text>"#, LEFT - 8.0, at + 4.0)?;
        }
        for (value, label) in x.ticks() {
            let at = x.place(value);
            write!(svg, r#"<path class="a" d="M{at:.1} {BOTTOM}v5"/>"#)?;
            write!(svg, r#"<text class="d" x="{at:.1}" y="{}" text-anchor="middle">{label}</text>"#, BOTTOM + 20.0)?;
        }
        write!(svg, r#"<path class="a" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/>"#)?;
        let middle = (LEFT + RIGHT) / 2.0;
        write!(svg, r#"<text x="{middle}" y="{}" text-anchor="middle">{}</text>"#, BOTTOM + 42.0, escape(&self.x))?;
        let middle = (TOP + BOTTOM) / 2.0;
        let turn = format!("translate(18 {middle}) rotate(-90)");
        write!(svg, r#"<text transform="{turn}" text-anchor="middle">{}</text>"#, escape(&self.y))?;
        for (number, (name, points)) in self.lines.iter().enumerate() {
            self.draw_line(svg, number, name, points, (&x, &y))?;
        }
        Ok(())
    }

    fn draw_line(
        &self,
        svg: &mut String,
        number: usize,
        name: &str,
        points: &[(f64, f64)],
        (x, y): (&Axis, &Axis),
    ) -> std::fmt::Result {
        let (colour, dash) = (number % COLOURS, DASHES[number % DASHES.len()]);
        let name = escape(name);
        write!(svg, r#"<g><title>{name}</title><polyline class="l{colour}" stroke-dasharray="{dash}" points=""#)?;
        let points = || points.iter().filter(|(_, y)| !self.log || *y > 0.0);
        for (at, value) in points() {
            write!(svg, "{:.1},{:.1} ", x.place(*at), y.place(*value))?;
        }
        svg.push_str(r#""/>"#);
        if points().count() <= 20 {
            for (at, value) in points() {
                write!(
                    svg,
                    r#"<circle class="l{colour}" cx="{:.1}" cy="{:.1}" r="3.5">"#,
                    x.place(*at),
                    y.place(*value)
                )?;
                write!(svg, "<title>{name}: {value:.4}</title></circle>")?;
            }
        }
        svg.push_str("</g>");
        let (from, to, at) = (RIGHT + 20.0, RIGHT + 50.0, TOP + 8.0 + 22.0 * number as f64);
        write!(svg, r#"<path class="k l{colour}" stroke-dasharray="{dash}" d="M{from} {at}H{to}"/>"#)?;
        write!(svg, r#"<text x="{}" y="{}">{name}</text>"#, to + 8.0, at + 4.0)
    }
}

/// Several charts, one under the other, in one SVG.
#[must_use]
pub fn page<'a>(charts: impl IntoIterator<Item = &'a Chart>) -> String {
    let charts: Vec<&Chart> = charts.into_iter().collect();
    let height = HEIGHT * charts.len() as f64;
    let titles: Vec<String> = charts.iter().map(|chart| escape(&chart.title)).collect();
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" class="c" role="img" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"><title>{}</title><style>{STYLE}{}@media (prefers-color-scheme:dark){{{}}}</style>"#,
        titles.join("; "),
        colours(LIGHT),
        colours(DARK)
    );
    for (number, chart) in charts.iter().enumerate() {
        svg.push_str(&format!(r#"<g transform="translate(0 {})">"#, HEIGHT * number as f64));
        // Writing to a String does not fail.
        let _ = chart.draw(&mut svg);
        svg.push_str("</g>");
    }
    svg.push_str("</svg>\n");
    svg
}

/// Text as it may stand in XML: without what XML cannot say.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

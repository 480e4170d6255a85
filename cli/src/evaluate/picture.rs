//! Pictures as SVG: axes with lines or bars, a table of shades, lanes over time. Colours come from the page's style.

use std::fmt::Write as _;

/// Of every picture, pixels.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 320.0;
/// Room for labels: left, right, top, bottom.
const MARGIN: [f64; 4] = [64.0, 16.0, 28.0, 44.0];
/// Colours of series, in order: variables of the page.
const SERIES: [&str; 4] = ["var(--one)", "var(--two)", "var(--three)", "var(--four)"];

/// What a picture is about.
pub struct Axes<'a> {
    /// Its title.
    pub title: &'a str,
    /// What goes to the right, with its unit.
    pub x: &'a str,
    /// What goes up, with its unit.
    pub y: &'a str,
    /// Largest value to the right.
    pub x_most: f64,
    /// Largest value up.
    pub y_most: f64,
}

/// A text within HTML: nothing in it is markup.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            character if character.is_control() => safe.push('\u{fffd}'),
            character => safe.push(character),
        }
    }
    safe
}

impl Axes<'_> {
    fn right(&self, x: f64) -> f64 {
        MARGIN[0] + (x / self.x_most).clamp(0.0, 1.0) * (WIDTH - MARGIN[0] - MARGIN[1])
    }

    fn up(&self, y: f64) -> f64 {
        HEIGHT - MARGIN[3] - (y / self.y_most).clamp(0.0, 1.0) * (HEIGHT - MARGIN[2] - MARGIN[3])
    }

    fn begin(&self, x_ticks: bool) -> String {
        let mut svg = open(self.title, HEIGHT);
        for fifth in 0..=5 {
            let share = f64::from(fifth) / 5.0;
            let (x, y) = (self.right(share * self.x_most), self.up(share * self.y_most));
            let (left, low) = (MARGIN[0], HEIGHT - MARGIN[3]);
            let _ = write!(svg, r#"<line class="grid" x1="{left:.1}" y1="{y:.1}" x2="{:.1}" y2="{y:.1}"/>"#, WIDTH - MARGIN[1]);
            let _ = write!(
                svg,
                r#"<text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                left - 6.0,
                y + 4.0,
                short(share * self.y_most)
            );
            if x_ticks {
                let _ = write!(
                    svg,
                    r#"<text class="tick" x="{x:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                    low + 16.0,
                    short(share * self.x_most)
                );
            }
        }
        let middle = (WIDTH + MARGIN[0] - MARGIN[1]) / 2.0;
        let _ =
            write!(svg, r#"<text class="axis" x="{middle:.1}" y="{:.1}" text-anchor="middle">{}</text>"#, HEIGHT - 8.0, escaped(self.x));
        let half = (HEIGHT + MARGIN[2] - MARGIN[3]) / 2.0;
        let _ = write!(
            svg,
            r#"<text class="axis" x="14" y="{half:.1}" text-anchor="middle" transform="rotate(-90 14 {half:.1})">{}</text>"#,
            escaped(self.y)
        );
        svg
    }
}

fn open(title: &str, height: f64) -> String {
    let title = escaped(title);
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{title}"><text class="title" x="{:.1}" y="16">{title}</text>"#,
        MARGIN[0]
    )
}

/// A number for an axis.
fn short(value: f64) -> String {
    if value.abs() >= 100.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// Lines, each with a name.
pub fn lines(axes: &Axes<'_>, series: &[(&str, Vec<(f64, f64)>)]) -> String {
    let mut svg = axes.begin(true);
    for (place, (name, points)) in series.iter().enumerate() {
        let colour = SERIES[place % SERIES.len()];
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{:.1},{:.1}", axes.right(*x), axes.up(*y))).collect();
        let _ = write!(svg, r#"<polyline fill="none" stroke="{colour}" stroke-width="2" points="{}"/>"#, path.join(" "));
        let y = MARGIN[2] + 14.0 + 16.0 * place as f64;
        let x = WIDTH - MARGIN[1] - 130.0;
        let _ = write!(svg, r#"<rect x="{x:.1}" y="{:.1}" width="10" height="10" fill="{colour}"/>"#, y - 9.0);
        let _ = write!(svg, r#"<text class="tick" x="{:.1}" y="{y:.1}">{}</text>"#, x + 16.0, escaped(name));
    }
    svg + "</svg>"
}

/// Bars side by side, each with a name below.
pub fn bars(axes: &Axes<'_>, bars: &[(String, f64)]) -> String {
    let mut svg = axes.begin(false);
    let each = (WIDTH - MARGIN[0] - MARGIN[1]) / bars.len().max(1) as f64;
    for (place, (name, value)) in bars.iter().enumerate() {
        let (x, top) = (MARGIN[0] + each * place as f64, axes.up(*value));
        let (width, height) = (each * 0.8, HEIGHT - MARGIN[3] - top);
        let _ =
            write!(svg, r#"<rect x="{:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" fill="{}"/>"#, x + each * 0.1, SERIES[0]);
        let (middle, low) = (x + each / 2.0, HEIGHT - MARGIN[3] + 16.0);
        let _ = write!(svg, r#"<text class="tick" x="{middle:.1}" y="{low:.1}" text-anchor="middle">{}</text>"#, escaped(name));
    }
    svg + "</svg>"
}

/// A table of counts, darker for more.
pub fn shades(title: &str, rows: &[String], columns: &[String], count: impl Fn(usize, usize) -> usize) -> String {
    let left = 110.0;
    let (wide, high) = ((WIDTH - left - 8.0) / columns.len().max(1) as f64, 24.0);
    let top = 112.0;
    let mut svg = open(title, top + high * rows.len() as f64 + 8.0);
    for (place, name) in columns.iter().enumerate() {
        let x = left + wide * (place as f64 + 0.5);
        let _ = write!(
            svg,
            r#"<text class="tick" x="{x:.1}" y="{:.1}" transform="rotate(-60 {x:.1} {:.1})">{}</text>"#,
            top - 6.0,
            top - 6.0,
            escaped(name)
        );
    }
    for (row, name) in rows.iter().enumerate() {
        let y = top + high * row as f64;
        let of_row: usize = (0..columns.len()).map(|column| count(row, column)).sum();
        let _ = write!(svg, r#"<text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#, left - 6.0, y + 16.0, escaped(name));
        for column in (0..columns.len()).filter(|column| count(row, *column) > 0) {
            let (x, here) = (left + wide * column as f64, count(row, column));
            let shade = 0.15 + 0.85 * here as f64 / of_row as f64;
            let _ = write!(
                svg,
                r#"<rect x="{x:.1}" y="{y:.1}" width="{:.1}" height="{:.1}" fill="{}" fill-opacity="{shade:.2}"/>"#,
                wide - 1.0,
                high - 1.0,
                SERIES[0]
            );
            let _ = write!(svg, r#"<text class="cell" x="{:.1}" y="{:.1}" text-anchor="middle">{here}</text>"#, x + wide / 2.0, y + 16.0);
        }
    }
    svg + "</svg>"
}

/// A stretch in a lane.
pub struct Stretch {
    /// Which lane.
    pub lane: usize,
    /// It begins, seconds.
    pub from_s: f64,
    /// It ends, seconds.
    pub to_s: f64,
    /// Class of its colour in the page's style.
    pub class: &'static str,
    /// Shown where the pointer rests.
    pub hint: String,
}

/// Lanes over time.
pub fn lanes(title: &str, names: &[&str], length_s: f64, stretches: &[Stretch]) -> String {
    let (left, high, top) = (110.0, 22.0, 28.0);
    let right = |seconds: f64| left + (seconds / length_s).clamp(0.0, 1.0) * (WIDTH - left - 8.0);
    let low = top + high * names.len() as f64;
    let mut svg = open(title, low + 24.0);
    for (lane, name) in names.iter().enumerate() {
        let y = top + high * lane as f64;
        let _ = write!(svg, r#"<text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#, left - 6.0, y + 15.0, escaped(name));
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{left:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}"/>"#,
            y + high - 1.0,
            WIDTH - 8.0,
            y + high - 1.0
        );
    }
    for stretch in stretches {
        let (from, to) = (right(stretch.from_s), right(stretch.to_s));
        let y = top + high * stretch.lane as f64 + 2.0;
        let _ = write!(
            svg,
            r#"<rect class="{}" x="{from:.1}" y="{y:.1}" width="{:.1}" height="{:.1}"><title>{}</title></rect>"#,
            stretch.class,
            (to - from).max(2.0),
            high - 5.0,
            escaped(&stretch.hint)
        );
    }
    for minute in (0..=(length_s / 60.0) as usize).step_by(5) {
        let x = right(minute as f64 * 60.0);
        let _ = write!(svg, r#"<text class="tick" x="{x:.1}" y="{:.1}" text-anchor="middle">{minute} min</text>"#, low + 16.0);
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_no_markup() {
        let axes = Axes { title: "<b>", x: "a & b", y: "\"y\"", x_most: 1.0, y_most: 1.0 };

        let svg = lines(&axes, &[("<script>alert(1)</script>", vec![(0.0, 0.0), (1.0, 1.0)])]);

        assert!(!svg.contains("<script") && !svg.contains("<b>") && svg.contains("&lt;script&gt;"), "{svg}");
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"));
    }

    #[test]
    fn points_lie_within_the_picture() {
        let axes = Axes { title: "t", x: "x", y: "y", x_most: 1.0, y_most: 1.0 };

        let svg = lines(&axes, &[("a", vec![(0.0, 0.0), (1.0, 1.0), (7.0, -3.0)])]);

        assert!(svg.contains(r#"points="64.0,276.0 544.0,28.0 544.0,276.0""#), "{svg}");
    }

    #[test]
    fn a_table_of_shades_shows_what_is_there() {
        let names = ["mining".to_owned(), "scan".to_owned()];

        let svg = shades("confusion", &names, &names, |row, column| if row == column { 3 } else { 0 });

        assert_eq!(svg.matches("<rect").count(), 2);
        assert_eq!(svg.matches(">3</text>").count(), 2);
    }
}

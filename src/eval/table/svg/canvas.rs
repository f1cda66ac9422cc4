//! The picture that plots draw on: a few shapes, colours by class, text that is measured and shortened.

use std::fmt::Write;

/// Size of ordinary text, in pixels.
pub const TEXT: f64 = 12.0;
/// Size of titles, in pixels, and a share more for their weight.
const TITLE: f64 = 16.0 * 1.14;
/// Colours that series take in turn; then they begin anew.
const COLOURS: usize = 8;

const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI','Helvetica Neue',Arial,'DejaVu Sans',sans-serif;font-size:12px}
.title{font-size:16px;font-weight:600}
.surface{fill:#ffffff}.ink{fill:#1f2328}.soft{fill:#59636e}
.grid{stroke:#e2e6ea}.axis{stroke:#8c959f}.none{fill:none}.dash{stroke-dasharray:5 4}.thin{stroke-opacity:.45}
.halo{stroke:#ffffff}.frame{fill:none;stroke:#c6ccd3}.unit{fill:#0b6fc2}
.f0{fill:#59636e}.f1{fill:#0b6fc2}.f2{fill:#d1540a}.f3{fill:#14835c}.f4{fill:#b23f86}.f5{fill:#6d4fc4}.f6{fill:#94700b}.f7{fill:#0f8296}
.s0{stroke:#59636e}.s1{stroke:#0b6fc2}.s2{stroke:#d1540a}.s3{stroke:#14835c}.s4{stroke:#b23f86}.s5{stroke:#6d4fc4}.s6{stroke:#94700b}.s7{stroke:#0f8296}
@media (prefers-color-scheme:dark){
.surface{fill:#14171c}.ink{fill:#e6e9ed}.soft{fill:#a3acb7}
.grid{stroke:#2a3038}.axis{stroke:#6b7580}.halo{stroke:#14171c}.frame{stroke:#414a55}.unit{fill:#58a6f0}
.f0{fill:#a3acb7}.f1{fill:#58a6f0}.f2{fill:#ff9350}.f3{fill:#3ecf9a}.f4{fill:#ec86c3}.f5{fill:#b09cf5}.f6{fill:#e2bd4b}.f7{fill:#4fcadd}
.s0{stroke:#a3acb7}.s1{stroke:#58a6f0}.s2{stroke:#ff9350}.s3{stroke:#3ecf9a}.s4{stroke:#ec86c3}.s5{stroke:#b09cf5}.s6{stroke:#e2bd4b}.s7{stroke:#4fcadd}
}
";

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// A picture being drawn. Pixels, the origin at the upper left.
pub struct Canvas {
    width: f64,
    height: f64,
    body: String,
}

impl Canvas {
    /// An empty picture with a title, of which `name` tells readers that do not see it.
    pub fn new((width, height): (f64, f64), title: &str, below: &str) -> Canvas {
        let mut canvas = Canvas { width, height, body: String::new() };
        canvas.push(format_args!("<title>{}</title>", escaped(title)));
        canvas.rect((0.0, 0.0), (width, height), "surface");
        let wide = width - 32.0;
        canvas.text((16.0, 28.0), Anchor::Start, "title ink", &shortened(title, TITLE, wide));
        canvas.text((16.0, 47.0), Anchor::Start, "soft", &shortened(below, TEXT, wide));
        canvas
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        let _ = writeln!(self.body, "{element}");
    }

    /// A text; `(x, y)` lies on its baseline.
    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{}</text>"#,
            escaped(text)
        ));
    }

    /// A text that reads upwards, its middle at `(x, y)`.
    pub fn upwards(&mut self, (x, y): (f64, f64), class: &str, text: &str) {
        self.push(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="middle" transform="rotate(-90 {x:.1} {y:.1})" class="{class}">{}</text>"#,
            escaped(text)
        ));
    }

    /// A straight line.
    pub fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str, width: f64) {
        self.push(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}" stroke-width="{width}"/>"#
        ));
    }

    /// A line through points.
    pub fn path(&mut self, points: &[(f64, f64)], class: &str, width: f64) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let points = points.join(" ");
        self.push(format_args!(
            r#"<polyline points="{points}" class="none {class}" stroke-width="{width}" stroke-linejoin="round"/>"#
        ));
    }

    /// A filled or framed rectangle.
    pub fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), class: &str) {
        self.push(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" class="{class}"/>"#
        ));
    }

    /// A cell of a heat strip: the more it shows, the more was kept; `tip` appears where a pointer rests.
    pub fn cell(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), share: f64, tip: &str) {
        self.push(format_args!(
            r#"<rect x="{x:.2}" y="{y:.1}" width="{width:.2}" height="{height:.1}" class="unit" fill-opacity="{share:.3}"><title>{}</title></rect>"#,
            escaped(tip)
        ));
    }

    /// The marker of a series, with a halo that parts it from lines; `tip` appears where a pointer rests.
    pub fn marker(&mut self, (x, y): (f64, f64), series: usize, tip: &str) {
        let class = format!("{} halo", fill(series));
        let polygon = |points: [(f64, f64); 4]| {
            let points: Vec<String> = points.iter().map(|(dx, dy)| format!("{:.1},{:.1}", x + dx, y + dy)).collect();
            format!(r#"<polygon points="{}""#, points.join(" "))
        };
        let shape = match series % 4 {
            0 => format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="4.5""#),
            1 => polygon([(-4.2, -4.2), (4.2, -4.2), (4.2, 4.2), (-4.2, 4.2)]),
            2 => polygon([(0.0, -6.0), (6.0, 0.0), (0.0, 6.0), (-6.0, 0.0)]),
            _ => polygon([(0.0, -5.5), (0.0, -5.5), (5.5, 4.2), (-5.5, 4.2)]),
        };
        self.push(format_args!(
            r#"{shape} class="{class}" stroke-width="1.5" paint-order="stroke"><title>{}</title></{}>"#,
            escaped(tip),
            if series.is_multiple_of(4) { "circle" } else { "polygon" }
        ));
    }

    /// The whole picture.
    pub fn finish(self) -> String {
        let Canvas { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<style>\n{STYLE}</style>\n{body}</svg>\n"
        )
    }
}

/// Class that fills with the colour of a series.
pub fn fill(series: usize) -> String {
    format!("f{}", series % COLOURS)
}

/// Class that draws lines in the colour of a series.
pub fn stroke(series: usize) -> String {
    format!("s{}", series % COLOURS)
}

/// Width of a text, in pixels: an upper estimate for usual sans-serif fonts.
pub fn text_width(text: &str, size: f64) -> f64 {
    let of = |c: char| match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | ' ' => 0.36,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 1.0,
        'A'..='Z' => 0.79,
        '#' | '&' | '+' | '<' | '=' | '>' | '^' | '~' => 0.84,
        ' '..='~' => 0.65,
        _ => 1.0,
    };
    text.chars().map(of).sum::<f64>() * size
}

/// The text, or as much of it as fits into `width` pixels.
pub fn shortened(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_string();
    }
    let mut short = String::new();
    for c in text.chars() {
        if text_width(&short, size) + text_width(&format!("{c}…"), size) > width {
            break;
        }
        short.push(c);
    }
    format!("{}…", short.trim_end())
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // XML holds no other control characters, escaped or not.
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_to_their_room() {
        assert_eq!(shortened("pp", TEXT, 100.0), "pp");
        let short = shortened(&"long name ".repeat(20), TEXT, 100.0);
        assert!(short.ends_with('…') && text_width(&short, TEXT) <= 100.0 && short.len() > 8, "{short}");
    }

    #[test]
    fn nothing_of_a_name_is_markup() {
        assert_eq!(escaped("a<b & \"c\"\u{1}"), "a&lt;b &amp; &quot;c&quot; ");
    }
}

//! A screen that nobody sits at: what can be done at it, and what is on it.

use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// An X server of its own; gone when dropped.
pub struct Screen {
    server: Child,
    display: String,
}

/// What is on a screen.
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

/// Where the MLP channels of the pruned layers are drawn; the ends are not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    pub x0: usize,
    pub x1: usize,
    pub y0: usize,
    pub y1: usize,
}

fn run(program: &str, arguments: &[&str], display: &str, input: &[u8]) -> Vec<u8> {
    let child = Command::new(program)
        .args(arguments)
        .env("DISPLAY", display)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("`{program}` is needed (`make deps-test`): {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A program that wants no input closes its end.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("an end");
    writer.join().expect("no panic");
    output.stdout
}

impl Screen {
    pub fn new(width: usize, height: usize) -> Screen {
        let size = format!("{width}x{height}x24");
        let server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", &size, "-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut server = server.unwrap_or_else(|error| panic!("`Xvfb` is needed (`make deps-test`): {error}"));
        let mut number = String::new();
        let stdout = server.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut number).expect("the number of the display");
        assert!(!number.trim().is_empty(), "Xvfb did not start");
        Screen { server, display: format!(":{}", number.trim()) }
    }

    pub fn display(&self) -> &str {
        &self.display
    }

    pub fn has_window(&self, name: &str) -> bool {
        !run("xdotool", &["search", "--onlyvisible", "--name", name], &self.display, b"").is_empty()
    }

    /// Gives a window the keyboard, as a window manager would.
    pub fn focus(&self, name: &str) {
        run("xdotool", &["search", "--onlyvisible", "--name", name, "windowfocus", "--sync"], &self.display, b"");
    }

    pub fn type_text(&self, text: &str) {
        run("xdotool", &["type", "--delay", "15", text], &self.display, b"");
        std::thread::sleep(Duration::from_millis(300));
    }

    pub fn press(&self, key: &str) {
        run("xdotool", &["key", key], &self.display, b"");
    }

    pub fn picture(&self) -> Picture {
        let ppm = run("import", &["-window", "root", "-depth", "8", "ppm:-"], &self.display, b"");
        // "P6", width, height and 255, each behind white space, then the pixels.
        let mut fields = ppm.split(|byte| byte.is_ascii_whitespace());
        let mut next = || std::str::from_utf8(fields.next().expect("a field")).expect("text").to_string();
        assert_eq!(next(), "P6");
        let (width, height) = (next(), next());
        let (width, height) = (width.parse::<usize>().expect("a width"), height.parse::<usize>().expect("a height"));
        let rgb = ppm[ppm.len() - width * height * 3..].to_vec();
        Picture { width, height, rgb }
    }

    /// The text in a picture.
    pub fn read(&self, picture: &Picture) -> String {
        // Text recognition wants dark letters on white, larger than screens draw them.
        let shown = picture.is_dark().then_some("-negate");
        let arguments: Vec<&str> = ["ppm:-", "-colorspace", "Gray"]
            .into_iter()
            .chain(shown)
            .chain(["-normalize", "-resize", "300%", "pgm:-"])
            .collect();
        let large = run("convert", &arguments, &self.display, &picture.ppm());
        let read = run("tesseract", &["-", "-", "--psm", "11"], &self.display, &large);
        String::from_utf8_lossy(&read).into_owned()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Picture {
    /// As a PPM file.
    pub fn ppm(&self) -> Vec<u8> {
        let mut ppm = format!("P6\n{} {}\n255\n", self.width, self.height).into_bytes();
        ppm.extend(&self.rgb);
        ppm
    }

    fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    fn is_dark(&self) -> bool {
        self.rgb.iter().map(|&value| u64::from(value)).sum::<u64>() < 128 * self.rgb.len() as u64
    }

    /// How much more blue than red: kept units are blue, dropped ones orange.
    pub fn blueness(&self, x: usize, y: usize) -> f64 {
        let [red, _, blue] = self.pixel(x, y);
        f64::from(blue) - f64::from(red)
    }

    /// Blue or orange; what is selected and what can be pressed is green or grey.
    fn coloured(&self, x: usize, y: usize) -> bool {
        let [red, green, blue] = self.pixel(x, y);
        self.blueness(x, y).abs() > 24.0 && green < red.max(blue)
    }

    /// The largest coloured rectangle of the right half, where there is one.
    pub fn try_heatmap(&self) -> Option<Area> {
        let columns = self.width / 2..self.width;
        let wide = |y: &usize| columns.clone().filter(|&x| self.coloured(x, *y)).count() * 6 > columns.len();
        let rows = longest_run((0..self.height).filter(wide))?;
        let full = |x: &usize| rows.clone().filter(|&y| self.coloured(*x, y)).count() * 2 > rows.len();
        // Heads lie left of the channels, behind a gap.
        let columns = longest_run(columns.clone().filter(full))?;
        (columns.len() > 100).then_some(Area { x0: columns.start, x1: columns.end, y0: rows.start, y1: rows.end })
    }

    pub fn heatmap(&self) -> Area {
        self.try_heatmap().expect("a heatmap in the picture")
    }

    pub fn heatmap_pixels(&self) -> Vec<[u8; 3]> {
        let area = self.heatmap();
        (area.y0..area.y1)
            .flat_map(|y| (area.x0..area.x1).map(move |x| (x, y)))
            .map(|(x, y)| self.pixel(x, y))
            .collect()
    }
}

/// The longest run of ascending numbers without a gap wider than the lines between cells.
fn longest_run(numbers: impl Iterator<Item = usize>) -> Option<Range<usize>> {
    const GAP: usize = 4;
    let mut runs: Vec<Range<usize>> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some(run) if number < run.end + GAP => run.end = number + 1,
            _ => runs.push(number..number + 1),
        }
    }
    runs.into_iter().max_by_key(Range::len)
}

//! The program as people meet it: the real binary in a window, typed at and looked at.
//!
//! Needs Xvfb, xdotool, ImageMagick and Tesseract (`make deps-test` installs them on Debian and Ubuntu) and the default
//! model (`secateur pull`). A missing one fails the test. Other systems have no such screens.
#![cfg(target_os = "linux")]

#[path = "window/screen.rs"]
mod screen;

use rusqlite::{Connection, OpenFlags};
use screen::{Picture, Screen};
use secateur::chat::{ChatSettings, Role, Store};
use secateur::config::SamplingConfig;
use secateur::protocol::{Heat, LayerHeat};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest wait for an answer: the first shaders of a cold cache take a while.
const PATIENCE: Duration = Duration::from_secs(180);

struct Program<'s> {
    child: Child,
    data: PathBuf,
    screen: &'s Screen,
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<'s> Program<'s> {
    fn start(screen: &'s Screen, data: &Path) -> Program<'s> {
        let log = File::create(data.join("log.txt")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_secateur"))
            .args(["--model", "smollm2-135m", "--log", "info", "--data"])
            .arg(data)
            .env("DISPLAY", screen.display())
            .env("SECATEUR_CACHE", data.join("cache"))
            .env_remove("WAYLAND_DISPLAY")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program");
        let mut program = Program { child, data: data.to_path_buf(), screen };
        program.wait_for("the window", |_| screen.has_window("Secateur"));
        screen.focus("Secateur");
        program
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("log.txt")).unwrap_or_default()
    }

    fn wait_for(&mut self, what: &str, mut seen: impl FnMut(&Program<'_>) -> bool) {
        let started = Instant::now();
        while !seen(self) {
            let ended = self.child.try_wait().expect("a child of ours");
            assert!(ended.is_none(), "the program ended ({ended:?}) before {what}: {}", self.log());
            if started.elapsed() > PATIENCE {
                let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("window.ppm");
                std::fs::write(&path, self.screen.picture().ppm()).expect("a file");
                panic!("{what} did not come (the screen is in {}): {}", path.display(), self.log());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// How many answers have ended, as another program reads the file of conversations.
    fn answers(&self) -> u32 {
        let path = self.data.join("chats.sqlite");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let Ok(file) = Connection::open_with_flags(path, flags) else { return 0 };
        let ended = "SELECT count(*) FROM node WHERE role = 'assistant' AND stop IS NOT NULL AND stop != 'null'";
        file.query_row(ended, [], |row| row.get(0)).unwrap_or(0)
    }
}

/// Makes new chats greedy and their answers short enough for the screen.
fn settle(data: &Path) {
    let store = Store::open(&data.join("chats.sqlite")).expect("a store");
    let sampling = SamplingConfig { repetition_penalty: 1.1, ..SamplingConfig::default() };
    let fresh = ChatSettings { sampling, max_tokens: 60, ..ChatSettings::default() };
    store.set_setting("window", &serde_json::json!({ "fresh": fresh }).to_string()).expect("a setting");
}

/// What the answers of the newest conversation say, with their probes.
fn kept(data: &Path) -> Vec<(String, Vec<Arc<Heat>>)> {
    let store = Store::open(&data.join("chats.sqlite")).expect("the program has let go of its file");
    let id = store.headers().expect("a list").first().expect("a conversation").id;
    let conversation = store.load(id).expect("the conversation");
    let path = conversation.path();
    let answers = path.iter().filter(|node| node.role == Role::Assistant);
    answers.map(|node| (node.text.clone(), store.heats(id, node.id).expect("probes"))).collect()
}

/// The share of kept channels in each of `bins` equal parts of a layer.
fn shares(layer: &LayerHeat, total: usize, bins: usize) -> Vec<f64> {
    let units = layer.channels.as_ref().expect("a pruned layer");
    let (mut kept, mut all) = (vec![0.0; bins], vec![0.0; bins]);
    for unit in 0..total {
        all[unit * bins / total] += 1.0;
        kept[unit * bins / total] += f64::from(u8::from(units.keeps(unit as u32)));
    }
    kept.iter().zip(&all).map(|(kept, all)| kept / f64::max(*all, 1.0)).collect()
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let product =
        |x: &[f64], mx: f64, y: &[f64], my: f64| x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum::<f64>();
    product(a, ma, b, mb) / (product(a, ma, a, ma) * product(b, mb, b, mb)).sqrt().max(1e-12)
}

/// Asserts that the rows of the heatmap in the picture are the layers of `heat`, in order.
fn check_heatmap(picture: &Picture, heat: &Heat) {
    let pruned: Vec<&LayerHeat> = heat.layers.iter().filter(|layer| layer.channels.is_some()).collect();
    let map = picture.heatmap();
    let row = |index: usize| map.y0 + (map.y1 - map.y0) * (2 * index + 1) / (2 * pruned.len());
    let width = map.x1 - map.x0;
    let drawn: Vec<Vec<f64>> =
        (0..pruned.len()).map(|index| (map.x0..map.x1).map(|x| picture.blueness(x, row(index))).collect()).collect();
    let expected: Vec<Vec<f64>> = pruned.iter().map(|layer| shares(layer, heat.channels, width)).collect();
    let mean = |shift: usize| {
        let count = pruned.len() - shift;
        (0..count).map(|index| correlation(&drawn[index], &expected[index + shift])).sum::<f64>() / count as f64
    };
    let (same, next) = (mean(0), mean(1));
    assert!(
        same > 0.6,
        "the rows of {map:?} agree with the masks by {same:.2} only (with the next layer's by {next:.2})"
    );
    assert!(next < same / 2.0, "any masks would do: {same:.2} with the right layers, {next:.2} with the next ones");
}

/// Asserts that most words of `text` are read in the picture.
fn check_text(screen: &Screen, picture: &Picture, text: &str) {
    let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric() || c.is_whitespace()).collect::<String>();
    let read = letters(&screen.read(picture)).to_lowercase();
    let read: Vec<&str> = read.split_whitespace().collect();
    let expected = letters(text).to_lowercase();
    let expected: Vec<&str> = expected.split_whitespace().filter(|word| word.len() > 3).collect();
    let found = expected.iter().filter(|word| read.contains(word)).count();
    assert!(!expected.is_empty(), "an answer without words: {text:?}");
    assert!(found * 10 >= expected.len() * 7, "{found} of {} words of {text:?} in {read:?}", expected.len());
}

#[test]
fn a_question_typed_into_the_window_is_answered_shown_and_kept() {
    let screen = Screen::new(1440, 900);
    let folder = tempfile::tempdir().expect("a folder");
    settle(folder.path());
    let mut program = Program::start(&screen, folder.path());
    program.wait_for("the model", |program| program.log().contains("model loaded"));
    std::thread::sleep(Duration::from_secs(1));
    let before = screen.picture();
    assert!(before.try_heatmap().is_none(), "nothing has been probed yet");

    screen.type_text("What is the capital of France? Answer in one sentence.");
    screen.press("Return");
    program.wait_for("the answer", |program| program.answers() == 1);
    std::thread::sleep(Duration::from_secs(1));
    let first = screen.picture();

    screen.type_text("And of Italy? Answer in one sentence.");
    screen.press("Return");
    program.wait_for("the second answer", |program| program.answers() == 2);
    std::thread::sleep(Duration::from_secs(1));
    let second = screen.picture();

    // A kill, not a farewell: everything must be in the file already.
    drop(program);
    let kept = kept(folder.path());
    assert_eq!(kept.len(), 2);
    for ((text, heats), picture) in kept.iter().zip([&first, &second]) {
        assert!(!heats.is_empty(), "no probe was kept");
        check_text(&screen, picture, text);
        check_heatmap(picture, heats.last().expect("a probe"));
    }
    let channels = |heats: &[Arc<Heat>]| heats.last().map(|heat| heat.layers[29].channels.clone());
    assert_ne!(channels(&kept[0].1), channels(&kept[1].1), "another question needs other channels");
    assert_ne!(first.heatmap_pixels(), second.heatmap_pixels(), "the heatmap did not change");

    // What was said is there again when the program is.
    let mut program = Program::start(&screen, folder.path());
    program.wait_for("the model", |program| program.log().contains("model loaded"));
    std::thread::sleep(Duration::from_secs(1));
    check_text(&screen, &screen.picture(), &kept[1].0);
}

#[test]
fn a_second_window_says_that_the_first_is_open() {
    let screen = Screen::new(1000, 700);
    let folder = tempfile::tempdir().expect("a folder");
    let _store = Store::open(&folder.path().join("chats.sqlite")).expect("a store");
    let mut program = Program::start(&screen, folder.path());
    program.wait_for("words", |_| screen.read(&screen.picture()).to_lowercase().contains("another secateur"));
}

#[test]
fn without_a_display_the_terminal_is_named() {
    let run = Command::new(env!("CARGO_BIN_EXE_secateur")).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").output();
    let run = run.expect("the program");
    let stderr = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("secateur chat") && stderr.lines().count() == 1, "{stderr}");
}

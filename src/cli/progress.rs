//! Progress bars on stderr. Off a terminal nothing is drawn at all.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// How the length of a bar is to be read.
#[derive(Debug, Clone, Copy)]
pub enum Unit {
    /// Bytes, with their rate.
    Bytes,
    /// Pieces of work.
    Steps,
    /// Thousandths.
    Share,
}

/// A bar of `length` units; hidden where stderr is no terminal.
pub fn bar(label: &str, length: u64, unit: Unit) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = match unit {
        Unit::Bytes => "{msg} [{bar:30}] {bytes}/{total_bytes} at {bytes_per_sec}, {eta} left",
        Unit::Steps => "{msg} [{bar:30}] {pos}/{len}, {elapsed} gone, {eta} left",
        Unit::Share => "{msg} [{bar:30}] {percent} %",
    };
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr()).with_message(label.to_string());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    // Time goes on between two steps.
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

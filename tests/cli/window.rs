//! The window's side of the command line, as far as it goes without a display.

use super::{Bench, Ended};

#[test]
#[cfg(target_os = "linux")]
fn without_a_display_the_chat_in_the_terminal_is_named() {
    let bench = Bench::new();
    let mut command = bench.command(&["--data", "here"]);
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    Ended::of(command).refused(&["no display", "DISPLAY", "secateur chat"]);
    assert!(!bench.path("here").exists(), "a refused window leaves nothing behind");
}

#[test]
fn options_of_the_window_are_refused_before_a_command() {
    Bench::new().run(&["--model", "tiny.gguf", "info"]).refused(&["--model", "before `info`", "behind"]);
    Bench::new().run(&["--context", "0"]).refused(&["--context", "0"]);
}

//! Ctrl-C: stops the work at hand where there is some that can be stopped, else ends the program.

use anyhow::{Context, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code of a program that a SIGINT ended.
const INTERRUPTED: i32 = 130;

static WORKING: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicBool = AtomicBool::new(false);

/// Takes over Ctrl-C. Outside of [`Work`] it still ends the program, and so does a second one while the first is
/// unheard.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        if !WORKING.load(Ordering::SeqCst) || ASKED.swap(true, Ordering::SeqCst) {
            // Nothing is held that the system would not release.
            #[expect(clippy::disallowed_methods, reason = "a signal handler has no caller to return an error to")]
            std::process::exit(INTERRUPTED);
        }
    })
    .context("Ctrl-C cannot be handled")
}

/// Work that Ctrl-C stops; it ends with the value.
pub struct Work(());

impl Work {
    /// Starts.
    pub fn start() -> Work {
        ASKED.store(false, Ordering::SeqCst);
        WORKING.store(true, Ordering::SeqCst);
        Work(())
    }

    /// Whether Ctrl-C was pressed since.
    pub fn asked_to_stop(&self) -> bool {
        ASKED.load(Ordering::SeqCst)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        WORKING.store(false, Ordering::SeqCst);
    }
}

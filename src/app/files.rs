//! Files that the user picks, beside the window's thread: a dialog or a slow disk never stops the window.

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

use super::Format;
use crate::chat::Conversation;
use crate::error::Error;
use eframe::egui;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Largest conversation that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// What came of it.
pub enum Outcome {
    /// A model to load.
    Model(PathBuf),
    /// A masks file to read.
    #[cfg(not(target_arch = "wasm32"))]
    Masks(PathBuf),
    /// A conversation.
    Imported(Box<Conversation>),
    /// A conversation was written to this file.
    Exported(PathBuf),
    /// It failed.
    Failed(Error),
}

/// The dialogs that are open, and what comes of them.
pub struct Files {
    sender: Sender<Outcome>,
    receiver: Receiver<Outcome>,
    context: egui::Context,
}

impl Files {
    /// None yet; the window of `context` is woken by what comes.
    pub fn new(context: egui::Context) -> Files {
        let (sender, receiver) = channel();
        Files { sender, receiver, context }
    }

    /// What came since the last call.
    pub fn drain(&self) -> Vec<Outcome> {
        self.receiver.try_iter().collect()
    }
}

/// A file name from a title: what systems refuse is left out.
fn file_name(title: &str, format: Format) -> String {
    let plain = |c: char| if c.is_control() || "/\\:*?\"<>|".contains(c) { ' ' } else { c };
    let name: String = title.chars().map(plain).take(64).collect();
    let name = name.trim_matches(|c| c == ' ' || c == '.');
    let name = if name.is_empty() { "conversation" } else { name };
    let ending = match format {
        Format::Markdown => "md",
        Format::Json => "json",
    };
    format!("{name}.{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_becomes_a_file_name_on_every_system() {
        assert_eq!(file_name("Why? a/b: c", Format::Markdown), "Why  a b  c.md");
        assert_eq!(file_name("../..", Format::Json), "conversation.json");
    }
}

//! Files that the user picks, on threads of their own: a dialog or a slow disk never stops the window.

use super::Format;
use crate::chat::{Conversation, import};
use crate::error::Error;
use eframe::egui;
use rfd::FileDialog;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Largest conversation that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// What came of it.
pub enum Outcome {
    /// A model to load.
    Model(PathBuf),
    /// A masks file to read.
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

    /// Asks for a GGUF file.
    pub fn pick_model(&self) {
        self.work(|| {
            let dialog = FileDialog::new().set_title("Open a model").add_filter("GGUF", &["gguf"]);
            dialog.add_filter("All files", &["*"]).pick_file().map(Outcome::Model)
        });
    }

    /// Asks for a folder of a model.
    pub fn pick_folder(&self) {
        self.work(|| FileDialog::new().set_title("Open a model folder").pick_folder().map(Outcome::Model));
    }

    /// Asks for the masks of an evaluation.
    pub fn pick_masks(&self) {
        self.work(|| FileDialog::new().set_title("Open the masks of an evaluation").pick_file().map(Outcome::Masks));
    }

    /// Asks for a conversation.
    pub fn import(&self) {
        self.work(|| {
            let dialog = FileDialog::new().set_title("Import a conversation");
            let path = dialog.add_filter("Conversations", &["json", "md"]).pick_file()?;
            Some(read(&path))
        });
    }

    /// Reads a conversation from a file that is known.
    pub fn import_from(&self, path: PathBuf) {
        self.work(move || Some(read(&path)));
    }

    /// Asks where to write a conversation, and writes it.
    pub fn export(&self, title: &str, format: Format, text: String) {
        let name = file_name(title, format);
        self.work(move || {
            let path = FileDialog::new().set_title("Export the conversation").set_file_name(name).save_file()?;
            let written = fs::write(&path, text).map_err(Error::io("write", &path));
            Some(written.map_or_else(Outcome::Failed, |()| Outcome::Exported(path)))
        });
    }

    fn work(&self, work: impl FnOnce() -> Option<Outcome> + Send + 'static) {
        let (sender, context) = (self.sender.clone(), self.context.clone());
        std::thread::spawn(move || {
            if let Some(outcome) = work() {
                // Nobody listens once the window is closed.
                let _ = sender.send(outcome);
                context.request_repaint();
            }
        });
    }
}

fn read(path: &Path) -> Outcome {
    let text = || {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let mut text = String::new();
        file.take(LARGEST + 1).read_to_string(&mut text).map_err(Error::io("read", path))?;
        if text.len() as u64 > LARGEST {
            return Err(Error::bad_file(
                path,
                format!("it is larger than {} MB: it is no conversation", LARGEST >> 20),
            ));
        }
        import(&path.display().to_string(), &text)
    };
    text().map_or_else(Outcome::Failed, |conversation| Outcome::Imported(Box::new(conversation)))
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

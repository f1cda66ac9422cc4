//! Dialogs of the system, on threads of their own.

use super::super::Format;
use super::{Files, LARGEST, Outcome, file_name};
use crate::chat::import;
use crate::error::Error;
use rfd::FileDialog;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

impl Files {
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

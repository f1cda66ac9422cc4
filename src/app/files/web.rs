//! Dialogs of the browser, as tasks of the page. What is picked is read where it lies.

use super::super::Format;
use super::{Files, LARGEST, Outcome, file_name};
use crate::chat::import;
use crate::error::{Error, Result};
use crate::origin::blob::Blob;
use crate::session;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::{Document, HtmlAnchorElement, HtmlInputElement, Url};

impl Files {
    /// Asks for a GGUF file.
    pub fn pick_model(&self) {
        self.pick(".gguf", |file| async move { Outcome::Model(session::give(file).into()) });
    }

    /// Asks for a conversation.
    pub fn import(&self) {
        self.pick(".json,.md", read);
    }

    /// Takes a file that was dropped: a conversation by its name, else a model.
    pub fn take(&self, file: web_sys::File) {
        let file = Blob::from(file);
        if [".json", ".md"].iter().any(|ending| file.name().to_lowercase().ends_with(ending)) {
            let (sender, context) = (self.sender.clone(), self.context.clone());
            spawn_local(async move {
                // Nobody listens once the page is gone.
                let _ = sender.send(read(file).await);
                context.request_repaint();
            });
        } else {
            self.tell(Outcome::Model(session::give(file).into()));
        }
    }

    /// Hands a conversation to the browser, which keeps it where downloads go.
    pub fn export(&self, title: &str, format: Format, text: String) {
        let name = file_name(title, format);
        let saved = save(&name, &text).map_err(|error| Error::Internal(format!("saving {name}: {error:?}")));
        self.tell(saved.map_or_else(Outcome::Failed, |()| Outcome::Exported(name.into())));
    }

    fn tell(&self, outcome: Outcome) {
        // Nobody listens once the page is gone.
        let _ = self.sender.send(outcome);
        self.context.request_repaint();
    }

    fn pick<F: Future<Output = Outcome> + 'static>(&self, accept: &str, then: impl Fn(Blob) -> F + 'static) {
        let (sender, context) = (self.sender.clone(), self.context.clone());
        let hear = move |file: Blob| {
            let (sender, context, outcome) = (sender.clone(), context.clone(), then(file));
            spawn_local(async move {
                let _ = sender.send(outcome.await);
                context.request_repaint();
            });
        };
        if let Err(error) = ask(accept, hear) {
            self.tell(Outcome::Failed(Error::Internal(format!("opening a dialog: {error:?}"))));
        }
    }
}

fn document() -> Result<Document, JsValue> {
    web_sys::window().and_then(|window| window.document()).ok_or_else(|| "there is no page".into())
}

/// Opens the browser's dialog; `hear` is called for the file that is picked.
fn ask(accept: &str, hear: impl Fn(Blob) + 'static) -> Result<(), JsValue> {
    let input: HtmlInputElement = document()?.create_element("input")?.dyn_into()?;
    input.set_type("file");
    input.set_accept(accept);
    let from = input.clone();
    let picked = Closure::once_into_js(move || {
        if let Some(file) = from.files().and_then(|files| files.get(0)) {
            hear(file.into());
        }
    });
    input.set_onchange(Some(picked.unchecked_ref()));
    input.click();
    Ok(())
}

fn save(name: &str, text: &str) -> Result<(), JsValue> {
    let blob = Blob::from_bytes(text.as_bytes(), name).map_err(|error| error.to_string())?;
    let url = Url::create_object_url_with_blob(blob.as_web())?;
    let link: HtmlAnchorElement = document()?.create_element("a")?.dyn_into()?;
    link.set_href(&url);
    link.set_download(name);
    link.click();
    Url::revoke_object_url(&url)
}

async fn read(file: Blob) -> Outcome {
    let text = async {
        if file.len() > LARGEST {
            let what = format!("it is larger than {} MB: it is no conversation", LARGEST >> 20);
            return Err(Error::bad_file(file.name(), what));
        }
        let text = String::from_utf8(file.read(0..file.len()).await?);
        let text = text.map_err(|_| Error::bad_file(file.name(), "it is no text: it is no conversation"))?;
        import(file.name(), &text)
    };
    text.await.map_or_else(Outcome::Failed, |conversation| Outcome::Imported(Box::new(conversation)))
}

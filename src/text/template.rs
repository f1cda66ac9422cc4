//! The chat template: a conversation to the text that the model was trained on.

use super::jinja;
use super::prompt::{ChatPrompt, Mask, Message};
use super::tokenizer::Tokenizer;
use crate::config::TextSource;
use crate::error::{Error, Result};
use minijinja::value::{Enumerator, Object};
use minijinja::{Environment, Value, context};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// ChatML, for models that know its tokens and have no template.
const CHATML: &str = "{{ bos }}{% for message in messages %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// For models that were never taught a conversation.
const PLAIN: &str = "{{ bos }}{% for message in messages %}\
{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}\
{% else %}{{ (message['role'] | capitalize) + ': ' + message['content'] + '\\n' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";

/// A model's way of writing down a conversation.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    source: String,
    /// What errors call it.
    name: String,
    bos: String,
    eos: String,
    /// Set for the templates here, which unlike a model's own do not know whether the model wants its BOS token.
    wanted_bos: String,
    stops: Vec<String>,
}

impl ChatTemplate {
    /// The model's template, or where it has none ChatML or a plain "User: / Assistant:" form.
    ///
    /// # Errors
    /// [`Error::Text`] if the model's template is not valid Jinja.
    pub fn new(source: &TextSource, tokenizer: &Tokenizer) -> Result<ChatTemplate> {
        let chatml = ["<|im_start|>", "<|im_end|>"].iter().all(|name| tokenizer.special_id(name).is_some());
        let (text, stops) = match &source.chat_template {
            Some(text) => (text.as_str(), Vec::new()),
            None if chatml => (CHATML, Vec::new()),
            None => (PLAIN, vec!["\nUser:".to_string()]),
        };
        let called = match (&source.chat_template, &source.chat_template_file) {
            (Some(_), Some(file)) => format!("the chat template ({file})"),
            _ => "the chat template".to_string(),
        };
        let name = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
        let bos = name(source.bos_token_id);
        // ChatML names its opening token as BOS in some files; a second one at the beginning would be one too many.
        let wanted = tokenizer.wants_bos() && bos != "<|im_start|>";
        Ok(ChatTemplate {
            env: guarded(&called, || jinja::environment(text))?.map_err(|e| failed(&called, "is not valid", &e))?,
            name: called,
            source: text.to_string(),
            wanted_bos: if wanted { bos.clone() } else { String::new() },
            bos,
            eos: name(source.eos_token_ids.first().copied()),
            stops,
        })
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Strings that end an answer where the form has no token for it; mostly empty.
    pub fn stop_strings(&self) -> &[String] {
        &self.stops
    }

    /// The conversation as the template writes it, ready for [`Tokenizer::encode_prompt`]; with `answer`, up to where
    /// the assistant begins to speak.
    ///
    /// # Errors
    /// [`Error::Text`] with what the template objects to.
    pub fn prompt(&self, tokenizer: &Tokenizer, messages: &[Message], answer: bool) -> Result<ChatPrompt> {
        let (mask, hidden) = Mask::apply(tokenizer, messages, &self.source)?;
        Ok(ChatPrompt::new(self.render(&hidden, answer)?, mask))
    }

    /// The conversation as text, whatever the messages hold. Ids are to be made by way of [`ChatTemplate::prompt`].
    ///
    /// # Errors
    /// As [`ChatTemplate::prompt`].
    pub fn render(&self, messages: &[Message], answer: bool) -> Result<String> {
        let template = self.env.get_template(jinja::NAME).map_err(|e| failed(&self.name, "cannot be used", &e))?;
        let context = context! {
            messages => messages.iter().map(Turn::value).collect::<Value>(),
            add_generation_prompt => answer,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            bos => self.wanted_bos.as_str(),
            tools => (),
            documents => (),
        };
        guarded(&self.name, || template.render(context))?
            .map_err(|e| failed(&self.name, "refuses this conversation", &e))
    }
}

/// Runs the template engine, whose panics are errors of the template: minijinja 3.0 panics, for one, where a template
/// walks an empty list backwards with a slice.
fn guarded<T>(name: &str, run: impl FnOnce() -> T) -> Result<T> {
    // What the engine was building is dropped, and the environment itself is not changed by rendering.
    catch_unwind(AssertUnwindSafe(run))
        .map_err(|_| Error::Text(format!("{name} cannot be run: the template engine gave up on it")))
}

/// A message as a template sees it: a map whose keys keep their order, as they do in Python.
#[derive(Debug)]
struct Turn(Message);

impl Turn {
    fn value(message: &Message) -> Value {
        Value::from_object(Turn(message.clone()))
    }
}

impl Object for Turn {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "role" => Some(Value::from(self.0.role.as_str())),
            "content" => Some(Value::from(self.0.content.as_str())),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["role", "content"])
    }
}

/// What minijinja says, with its causes: the innermost often names the culprit.
fn failed(name: &str, what: &str, error: &minijinja::Error) -> Error {
    let mut text = format!("{name} {what}: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    Error::Text(text)
}

//! Text on its way to ids and back: the tokenizer, the chat template, the streaming decoder.
//!
//! Owns everything between a `&str` and a `&[u32]`. It keeps two invariants. What a person typed never becomes a
//! special token, only what the template wrote does. And decoding is a concatenation: a token's bytes do not depend on
//! its neighbours, save for one leading space, so a stream of pieces always adds up to the decoded whole.
//!
//! A model file is not trusted: everything the `tokenizers` crate would panic on is refused here, with a message.

mod added;
mod bpe;
mod export;
mod gguf;
mod hub;
mod jinja;
mod json;
mod pieces;
mod pre;
mod prompt;
mod spm;
mod stream;
mod template;
mod tokenizer;

pub use export::{Exported, export};
pub use hub::{HubFile, hub_files};
pub use prompt::{ChatPrompt, Message};
pub use stream::{StopStrings, StreamDecoder};
pub use template::ChatTemplate;
pub use tokenizer::{Special, Tokenizer};

//! Conversations: a tree of messages, their settings, presets, and how all of it is kept.
//!
//! - [`Conversation`] is a tree: to edit or to regenerate makes a branch, and nothing is ever deleted from it;
//! - [`Store`] keeps everything in one SQLite file, whole after a kill at any moment;
//! - [`export_markdown`], [`export_json`] and [`import`] turn a conversation into Markdown or JSON and back.

mod heat_codec;
mod store;
mod transfer;
mod tree;

pub use store::{Found, Header, Store};
pub use transfer::{export_json, export_markdown, import};
pub use tree::{Branch, Conversation, Node, NodeId, Role};

use crate::config::{Method, PruneConfig, SamplingConfig};
use crate::protocol::Overflow;
use serde::{Deserialize, Serialize};

/// What a conversation runs with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChatSettings {
    /// What the model is told before everything else; empty = nothing.
    pub system: String,
    /// How tokens are drawn.
    pub sampling: SamplingConfig,
    /// Longest answer, in tokens.
    pub max_tokens: usize,
    /// What happens when the conversation outgrows the context.
    pub overflow: Overflow,
    /// What to prune.
    pub prune: PruneConfig,
}

impl Default for ChatSettings {
    /// Pruned by probes at 0.1 while answering, drawn as the command line's chat draws.
    fn default() -> ChatSettings {
        ChatSettings {
            system: String::new(),
            sampling: SamplingConfig { temperature: 0.2, repetition_penalty: 1.1, ..SamplingConfig::default() },
            max_tokens: 1024,
            overflow: Overflow::default(),
            prune: PruneConfig { method: Method::Pp, ratio: 0.1, ..PruneConfig::default() },
        }
    }
}

/// Named settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preset {
    /// Unique.
    pub name: String,
    /// What it sets.
    pub settings: ChatSettings,
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = web_time::SystemTime::now().duration_since(web_time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

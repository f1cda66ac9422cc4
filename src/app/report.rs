//! What the window shows, as data: for tests of the page, which see pixels alone, and for whoever wants to know.

use super::state::{Model, State};
use crate::chat::Role;
use crate::protocol::UnitHeat;
use serde_json::{Value, json};

/// The model, the messages of the conversation that is shown, and every choice of units behind its answers.
pub fn report(state: &State) -> Value {
    let model = match &state.model {
        Model::None => json!({ "status": "none" }),
        Model::Loading { name, stage, share } => {
            json!({ "status": "loading", "name": name, "stage": stage, "share": share })
        }
        Model::Ready(info) => {
            json!({ "status": "ready", "name": info.name, "device": info.device, "memory": info.memory, "seconds": info.seconds })
        }
        Model::Failed { name, error } => json!({ "status": "failed", "name": name, "error": error }),
    };
    let path = state.conversation().map(|conversation| conversation.path()).unwrap_or_default();
    let message = |node: &&crate::chat::Node| {
        let role = if node.role == Role::User { "user" } else { "assistant" };
        json!({ "role": role, "text": node.text, "figures": node.figures, "stop": node.stop, "error": node.error })
    };
    let units = |units: &Option<UnitHeat>| units.as_ref().map(|units| units.kept.clone());
    let heat = |heat: &std::sync::Arc<crate::protocol::Heat>| {
        let layers = heat.layers.iter();
        let layers: Vec<Value> =
            layers.map(|layer| json!({ "heads": units(&layer.heads), "channels": units(&layer.channels) })).collect();
        json!({ "index": heat.index, "cause": heat.cause, "at": heat.at, "ratio": heat.ratio, "layers": layers })
    };
    json!({
        "model": model,
        "busy": state.is_busy(),
        "lost": state.lost,
        "ratio": state.settings().prune.ratio,
        "conversations": state.headers.len(),
        "messages": path.iter().map(message).collect::<Vec<_>>(),
        "heats": state.heats.iter().map(heat).collect::<Vec<_>>(),
        "notices": state.notices.iter().map(|notice| notice.text.clone()).collect::<Vec<_>>(),
    })
}

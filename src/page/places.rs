//! Where the parts of the window lie on the canvas, for who drives the page from outside: a canvas says nothing of itself.

use eframe::egui::accesskit::{Node, NodeId, TreeUpdate};
use eframe::egui::{Context, FullOutput, Plugin};
use serde_json::{Value, json};

/// Listens to what assistive technologies would be told.
#[derive(Default)]
pub struct Places {
    nodes: Vec<(NodeId, Node)>,
}

impl Plugin for Places {
    fn debug_name(&self) -> &'static str {
        "places"
    }

    fn setup(&mut self, context: &Context) {
        context.enable_accesskit();
    }

    fn output_hook(&mut self, _: &Context, output: &mut FullOutput) {
        if let Some(TreeUpdate { nodes, .. }) = output.platform_output.accesskit_update.take() {
            self.nodes = nodes;
        }
    }
}

impl Places {
    /// Every part with a name, its own or that of the words beside it: role, name, value, and left, top, right and bottom in
    /// points.
    pub fn list(&self) -> Value {
        let of = |id: &NodeId| self.nodes.iter().find(|(other, _)| other == id).map(|(_, node)| node);
        let beside = |node: &Node| node.labelled_by().first().and_then(of).and_then(name);
        let place = |(_, node): &(NodeId, Node)| {
            let (label, bounds) =
                (node.label().map(str::to_string).or_else(|| beside(node)).or_else(|| name(node))?, node.bounds()?);
            let bounds = [bounds.x0, bounds.y0, bounds.x1, bounds.y1];
            let value = node.numeric_value().map_or_else(|| json!(node.value()), |value| json!(value));
            Some(json!({ "role": format!("{:?}", node.role()), "label": label, "value": value, "bounds": bounds }))
        };
        self.nodes.iter().filter_map(place).collect()
    }
}

/// What a part is called, or says.
fn name(node: &Node) -> Option<String> {
    node.label().or(node.value()).map(str::to_string)
}

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
    /// Every part with a name: role, name, value, and left, top, right and bottom in points.
    pub fn list(&self) -> Value {
        let place = |(_, node): &(NodeId, Node)| {
            let (label, bounds) = (node.label().or(node.value())?, node.bounds()?);
            let bounds = [bounds.x0, bounds.y0, bounds.x1, bounds.y1];
            let value = node.numeric_value().map_or_else(|| json!(node.value()), |value| json!(value));
            Some(json!({ "role": format!("{:?}", node.role()), "label": label, "value": value, "bounds": bounds }))
        };
        self.nodes.iter().filter_map(place).collect()
    }
}

//! The right side: what pruning does to this conversation. The panels are [`super::heat`]'s; this keeps their state beside the
//! conversation that is shown, and turns what they return into intents.

use super::heat::{self, CostInput, CostIntent, HeatmapView, PromptView, Timeline};
use super::state::{Intent, State, Task};
use super::theme::{self, SPACE};
use super::view::View;
use super::{Act, PAGE, sidebar};
use crate::chat::{Node, NodeId, Role};
use crate::protocol::Heat;
use eframe::egui::{CollapsingHeader, RichText, ScrollArea, Ui};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Tokens of a prompt that costs are estimated for while there is none.
const USUAL_PROMPT: usize = 64;

/// Bytes of a message, each with a weight from 0 to 1.
type Spans = Vec<(Range<usize>, f32)>;

/// What the panel remembers between frames.
#[derive(Default)]
pub struct Inspector {
    timeline: Timeline,
    heatmap: HeatmapView,
    prompt: PromptView,
    /// [`State::heats_revision`] of what `timeline` was made from; `None` = it was not made yet.
    revision: Option<u64>,
    /// By question: the probe that its spans are of.
    spans: BTreeMap<NodeId, (Arc<Heat>, Spans)>,
}

impl Inspector {
    /// Takes in what came since the last frame.
    pub fn follow(&mut self, state: &State) {
        if self.revision != Some(state.heats_revision) {
            self.revision = Some(state.heats_revision);
            self.timeline = match &state.masks {
                Some(file) => Timeline::of(file.batches.clone(), false),
                None => Timeline::of(state.heats.clone(), true),
            };
            self.spans.clear();
        } else if state.masks.is_none() {
            for heat in state.heats.iter().skip(self.timeline.len()) {
                self.timeline.push(heat.clone());
            }
        }
    }

    /// Looks at the first probe of an answer.
    pub fn seek(&mut self, answer: NodeId) {
        self.timeline.seek_answer(answer);
    }

    /// Bytes of a question that were probed for its answer.
    pub fn probed(&mut self, state: &State, question: &Node) -> Spans {
        let Some(open) = state.conversation() else { return Spans::new() };
        let path = open.path();
        let answer = path.iter().find(|node| node.parent == Some(question.id));
        let first = |answer: &&&Node| state.heats.iter().find(|heat| heat.id == answer.id);
        let Some((answer, heat)) = answer.and_then(|answer| Some((answer, first(&answer)?))) else {
            return Spans::new();
        };
        match self.spans.get(&question.id) {
            Some((of, spans)) if Arc::ptr_eq(of, heat) => spans.clone(),
            _ => {
                let spans = heat::spans_in_message(&question.text, &answer.prompt, heat);
                self.spans.insert(question.id, (heat.clone(), spans.clone()));
                spans
            }
        }
    }

    /// The answer that the shown probe belongs to; else the last one.
    fn answer<'a>(&self, state: &'a State) -> Option<&'a Node> {
        let of_shown = || state.conversation()?.node(self.timeline.current()?.id);
        let shown = if state.masks.is_none() && !self.timeline.live() { of_shown() } else { None };
        shown.filter(|node| node.role == Role::Assistant).or_else(|| state.last_answer())
    }
}

/// Draws the panel.
pub fn show(ui: &mut Ui, state: &State, view: &mut View, acts: &mut Vec<Act>) {
    ui.add_space(SPACE);
    ui.horizontal(|ui| {
        ui.label(RichText::new("Pruning").strong());
        theme::from_the_right(ui, |ui| {
            if !PAGE && theme::quiet(ui, "Open masks…").on_hover_text("The masks of a headless evaluation").clicked()
            {
                acts.push(Act::PickMasks);
            }
        });
    });
    ScrollArea::vertical().id_salt("inspector").auto_shrink(false).show(ui, |ui| {
        // Room for the scroll bar, which is drawn over what scrolls.
        ui.set_max_width(ui.available_width() - SPACE);
        if let Some(file) = &state.masks {
            theme::alert(ui, false, |ui| {
                ui.label(RichText::new(sidebar::short(&file.path.display().to_string())).strong());
                theme::aside(ui, &file.title);
                if ui.button("Back to the conversation").clicked() {
                    acts.push(Act::State(Intent::CloseMasks));
                }
            });
        } else {
            section(ui, "What to prune", |ui| settings(ui, state, acts));
        }
        let inspector = &mut view.inspector;
        section(ui, "What was computed", |ui| computed(ui, inspector));
        if state.masks.is_none() {
            probed(ui, state, inspector);
            section(ui, "What it costs and saves", |ui| costs(ui, state, inspector, acts));
        }
        ui.add_space(SPACE * 2.0);
    });
}

fn section(ui: &mut Ui, title: &str, contents: impl FnOnce(&mut Ui)) {
    CollapsingHeader::new(RichText::new(title).strong()).default_open(true).show_unindented(ui, contents);
    ui.add_space(SPACE / 2.0);
}

fn settings(ui: &mut Ui, state: &State, acts: &mut Vec<Act>) {
    let mut settings = state.settings().clone();
    let model = state.ready().map(|info| &info.config);
    let prompt = state.figures().map_or(USUAL_PROMPT, |figures| figures.prompt_tokens);
    if heat::pruning(ui, &mut settings.prune, model, prompt, state.is_pruning_pending()) {
        acts.push(Act::State(Intent::Settings(Box::new(settings))));
    }
}

fn computed(ui: &mut Ui, inspector: &mut Inspector) {
    let Some((shown, against)) = inspector.timeline.shown() else {
        theme::aside(
            ui,
            "With the first pruned answer, this shows which heads and channels of each layer were computed.",
        );
        return;
    };
    heat::heatmap(ui, &mut inspector.heatmap, &shown, against.as_ref());
    heat::legend(ui, against.is_some());
    heat::timeline(ui, &mut inspector.timeline);
}

fn probed(ui: &mut Ui, state: &State, inspector: &mut Inspector) {
    let Some(heat) = inspector.timeline.current().cloned() else { return };
    let Some(answer) = state.conversation().and_then(|open| open.node(heat.id)) else { return };
    if !answer.prompt.is_empty() {
        section(ui, "What was probed", |ui| heat::prompt(ui, &mut inspector.prompt, &answer.prompt, &heat));
    }
}

fn costs(ui: &mut Ui, state: &State, inspector: &Inspector, acts: &mut Vec<Act>) {
    let answer = inspector.answer(state);
    let comparing =
        answer.and_then(|node| state.running_at(node.id)).is_some_and(|running| running.task == Task::Compare);
    let unavailable = match answer {
        None => Some("There is no answer yet."),
        Some(_) if state.ready().is_none() => Some("No model is loaded."),
        Some(_) if state.is_busy() && !comparing => Some("An answer is being written."),
        Some(_) => None,
    };
    let comparison = answer.and_then(|node| node.comparison.as_ref());
    let figures = answer.and_then(|node| node.figures.as_ref());
    let wanted = heat::cost(ui, &CostInput { figures, comparison, comparing, unavailable });
    acts.extend(answer.zip(wanted).map(|(answer, wanted)| match wanted {
        CostIntent::Compare => Act::State(Intent::Compare(answer.id)),
        CostIntent::Stop => Act::State(Intent::Stop),
    }));
}

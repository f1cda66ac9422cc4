//! The pruning view: which units every layer computes, when that was chosen, from which tokens, and what it costs.
//!
//! Panels are functions over plain state; each draws into the `Ui` it is given, takes the whole width there, and returns
//! what the user wants. Nothing here owns an engine, a file or a clock.
//!
//! | panel | state | returns |
//! |---|---|---|
//! | [`heatmap`]`(ui, &mut HeatmapView, &Arc<Heat>, against: Option<&Arc<Heat>>)` | [`HeatmapView`] | [`HeatmapResponse`]: the cell that is pointed at |
//! | [`timeline`]`(ui, &mut Timeline)` | [`Timeline`] | whether what [`Timeline::shown`] gives has changed |
//! | [`prompt`]`(ui, &mut PromptView, pieces, &Arc<Heat>)` | [`PromptView`] | nothing |
//! | [`pruning`]`(ui, &mut PruneConfig, model, prompt_tokens, pending)` | the settings | whether they changed; they are always valid |
//! | [`cost`]`(ui, &CostInput)` | none | [`CostIntent`] |
//!
//! A host keeps one [`Timeline`], one [`HeatmapView`] and one [`PromptView`] a conversation, calls [`Timeline::push`] for
//! every `Event::Heat`, and draws what [`Timeline::shown`] gives. [`spans_in_message`] is for a host that underlines what
//! was probed inside its own text.
//!
//! Invariant: a frame in which nothing changed builds no picture and asks for no repaint.

mod cost;
mod grid;
mod heatmap;
mod palette;
mod picture;
mod prompt;
mod settings;
mod timeline;
mod track;
mod window;
mod words;

pub use cost::{CostInput, CostIntent, cost};
pub use heatmap::{HeatmapResponse, HeatmapView, heatmap};
pub use palette::legend;
pub use prompt::{PromptView, prompt, spans_in_message};
pub use settings::pruning;
pub use timeline::{Pin, Timeline};
pub use track::timeline;
pub use words::{Cell, Unit};

//! Which units a forward pass computes. The forward pass asks a [`Selector`] before each half of a block and shows it the
//! activations after; a method is one selector.
//!
//! Invariants: how *many* units are kept is known here, on the CPU, from the [`Plan`] alone; *which* ones is decided on
//! the GPU and never read back by the engine itself.

mod history;
mod mask;
pub mod masks_file;
mod plan;
mod probing;
mod reading;
mod running;
mod selector;

pub use history::{Calibrating, History};
pub use mask::{LayerMasks, Mask};
pub use plan::{Flops, LayerPlan, Plan, ProbeSize};
pub use probing::{ProbeTrace, Probing};
pub use reading::{Chosen, ChosenLayers, Reading};
pub use running::{Frozen, Running, Watching, Window};
pub use selector::{Block, Dense, Selector};

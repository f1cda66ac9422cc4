//! Which units a forward pass computes. The forward pass asks a [`Selector`] before each half of a block and shows it the
//! activations after; a method is one selector.
//!
//! Invariants: how *many* units are kept is known here, on the CPU, from the [`Plan`] alone; *which* ones is decided on
//! the GPU and never read back by the engine itself.

mod calibration;
mod chooser;
mod compensation;
mod fixed;
mod half;
mod history;
mod judge;
mod judges;
mod knowledge;
mod mask;
pub mod masks_file;
mod measuring;
mod plan;
mod powers;
mod probing;
mod reading;
mod running;
mod selector;
pub mod statics;
mod tensors;
mod thresholds;
mod units;

pub use calibration::{Calibration, Measured, Recipe, rows_of};
pub use chooser::Chooser;
pub use compensation::{Compensation, Means};
pub use fixed::{Fixed, Frozen};
pub use half::Half;
pub use history::History;
pub use judge::{Evidence, Judge, Verdict};
pub use judges::Judges;
pub use knowledge::Knowledge;
pub use mask::{LayerMasks, Mask};
pub use measuring::Measuring;
pub use plan::{Flops, LayerPlan, Plan, ProbeSize, ProbeSizes};
pub use probing::{ProbeTrace, Probing};
pub use reading::{Chosen, ChosenLayers, Reading};
pub use running::{Running, Watching, Window};
pub use selector::{Block, Dense, Selector};
#[cfg(all(feature = "burn", not(target_arch = "wasm32")))]
pub(crate) use tensors::{Tensors, TensorsWriter};
pub use units::{LayerUnits, Origin, UnitSets, Units};

//! The instrument: what this engine's speed is judged by.
//!
//! - [`measure`] runs prompts and answers end to end, dense and pruned, in interleaved rounds, and beside them the same passes
//!   with their units given: the difference is what probe and choice cost;
//! - [`Ceilings`] are what the device can do at most;
//! - [`per_kernel`] times every kernel at a model's shapes against those;
//! - a [`Peer`] takes its turns beside us: llama.cpp ([`LlamaBench`]), or a general tensor library (`Burn`, feature `burn`);
//! - [`Memory`] and [`read_seconds`] say what a model takes to hold and to load.
//!
//! Invariant: every ratio is of a pair that ran in the same round; every time includes what a user waits for, the read-back
//! of logits too, unless its docs say otherwise.

#[cfg(feature = "burn")]
mod burn;
mod ceilings;
mod clock;
mod contender;
mod llama_bench;
mod memory;
mod peer;
pub mod per_kernel;
mod rounds;
mod statistics;

#[cfg(feature = "burn")]
pub use burn::Burn;
pub use ceilings::Ceilings;
pub use contender::Kept;
pub use llama_bench::LlamaBench;
pub use memory::{Memory, read_seconds};
pub use peer::{Peer, PeerRecord};
pub use rounds::{ChoiceCost, Measured, PeerRun, Run, Setup, Wish, measure};
pub use statistics::Spread;

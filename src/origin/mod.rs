//! What the browser keeps for the page: files of its origin, picked files, downloads, a lock between tabs.
//!
//! For wasm32 alone, but for [`plan`], which decides without asking the browser and is tested on any machine. Everything
//! here works in a page and in a worker, and never blocks: what takes long hands the event loop a turn every few
//! milliseconds. Invariant: an exception of JavaScript becomes an [`Error`](crate::Error); nothing here panics or throws.

#[cfg(target_arch = "wasm32")]
pub mod blob;
#[cfg(target_arch = "wasm32")]
pub mod download;
#[cfg(target_arch = "wasm32")]
pub mod files;
#[cfg(target_arch = "wasm32")]
mod js;
#[cfg(target_arch = "wasm32")]
pub mod lock;
#[cfg(target_arch = "wasm32")]
mod pause;
pub mod plan;

#[cfg(target_arch = "wasm32")]
pub use pause::{Slices, pause, sleep};

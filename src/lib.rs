//! Secateur: LLaMA models on any GPU through WebGPU, pruned by what each input needs.
#![warn(missing_docs)]

pub mod config;
pub mod engine;
pub mod error;
pub mod format;
pub mod gpu;
pub mod kernels;
pub mod model;
pub mod prune;
pub mod text;

pub use error::{Error, Result};

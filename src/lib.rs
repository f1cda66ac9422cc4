//! Secateur: LLaMA models on any GPU through WebGPU, pruned by what each input needs.
#![warn(missing_docs)]

pub mod config;
pub mod error;
pub mod format;
pub mod gpu;
pub mod kernels;

pub use error::{Error, Result};

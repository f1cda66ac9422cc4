//! Other programs' ways of running the same weights, to measure against.
//!
//! Invariant: a peer computes what `engine` computes for a dense model, on the adapter that `engine` runs on, and shares
//! no code with its kernels: only files and settings. What it
//! is made of in burn lies in `llama`, for the passes of `tune` too.

mod burn;

pub use self::burn::BurnLlama;

//! Helpers that several test binaries share.
// Each binary compiles all of it and uses a part.
#![allow(dead_code)]

pub mod adapters;
pub mod calibrations;
pub mod device;
pub mod drawing;
pub mod fixtures;
pub mod gguf_writer;
pub mod quantise;
pub mod reference;
pub mod tiny_model;
pub mod tiny_vocabulary;

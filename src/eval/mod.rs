//! Evaluation on data: what a method costs in quality, as numbers that can be repeated.
//!
//! Owns the reading of data sets ([`rows`]) and the cutting of texts ([`data`]), the measuring of calibrations
//! ([`calibrate`]), instructions to learn from ([`instructions`]), the scoring of texts ([`perplexity`]), of their continuations ([`continuation`]) and of questions
//! with given answers ([`tasks`]), the record of what was run ([`report`]), and the comparison of methods on both ([`table`]). Invariant: a result carries everything
//! that it depends on (hashes of model and data, settings, device), so that two results can be compared or a difference
//! explained.

pub mod calibrate;
pub mod continuation;
pub mod data;
pub mod instructions;
pub mod perplexity;
pub mod report;
pub mod rows;
pub mod table;
pub mod tasks;

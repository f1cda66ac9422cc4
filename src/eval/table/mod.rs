//! The table of the paper on the user's own model: methods by ratios by data sets in one run, with quality, runtime,
//! FLOPs, and what quality was paid for the runtime saved.
//!
//! Owns what the user asks for ([`Spec`]), the order in which arms take turns ([`Schedule`]), the log from which an
//! interrupted run goes on ([`Log`]), the loop over both ([`run`]), the arithmetic ([`rows`]), and one form of result
//! ([`Row`]) that all files are written from ([`write_all`]). Invariant: a row depends on the results of batches alone,
//! and these on nothing that a row does not name; a run that was killed and resumed gives the same qualities as one
//! that was not.

mod log;
mod markdown;
mod runner;
mod schedule;
mod schema;
mod spec;
mod svg;
mod tally;
mod tuned;
mod work;
mod write;

pub use log::{BatchLine, BatchResult, Fingerprint, Log, PARTIAL, check_out};
pub use markdown::markdown;
pub use runner::{Activity, Ended, Progress, Watch, Work, run};
pub use schedule::{Schedule, Step};
pub use schema::{DataKind, DataRecord, Protocol, Quality, QualityName, Row, Table, loss_per_saving};
pub use spec::{Arm, MethodSpec, Spec, TaskSpec, check_names};
pub use tally::{Measure, rows};
pub use tuned::{TunedRecord, TunedSpec};
pub use work::{DataSet, EngineWork, Place};
pub use write::{csv, json, write_all};

//! What the browser keeps for the page: files of its origin, picked files, downloads, a lock between tabs.
//!
//! [`plan`] decides without asking the browser and is tested on any machine.

pub mod plan;

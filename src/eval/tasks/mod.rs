//! Questions with given answers, scored as EleutherAI's lm-evaluation-harness scores them: the answer whose text the model
//! finds likeliest is the model's answer.
//!
//! - [`TaskData`] is a file of rows, rendered: every answer a context and an ending ([`Item`]);
//! - [`Questions`] are their tokens, as [`Request`]s to run: the smallest pieces of work, in batches of any size;
//! - [`score`] runs a batch of requests under a method, [`score_batch`] under any selector, [`run`] all of them;
//! - [`Questions::outcome`] makes accuracies of the likelihoods, [`TaskReport`] is their record.
//!
//! Invariants: what is asked depends on the file, the tokenizer and the settings alone, not on what else is scored or in
//! which order; prompts, cuts into tokens and metrics are lm-eval's (0.4.13), held by `tests/tasks.rs` against its own
//! output.

mod data;
mod item;
mod outcome;
mod questions;
mod report;
mod run;

pub use data::{FewShot, TaskData};
pub use item::{Choice, Item};
pub use outcome::{Accuracy, Prediction, TaskOutcome};
pub use questions::{Ending, Questions, Request, Scored, score_batch};
pub use report::{Circumstances, PROTOCOL, PredictionLine, TaskReport, means};
pub use run::{Batch, TaskOptions, TaskRun, run, score};

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A data set of questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskName {
    /// Yes or no, about a passage.
    BoolQ,
    /// The better of two ways to a goal.
    Piqa,
    /// The likeliest of four ends of a story.
    HellaSwag,
    /// Which of two nouns fills a gap.
    WinoGrande,
    /// Science of primary schools, the easy part.
    #[serde(rename = "arc-easy")]
    ArcEasy,
    /// The hard part.
    #[serde(rename = "arc-challenge")]
    ArcChallenge,
    /// Elementary science with a fact to remember.
    OpenBookQa,
}

impl TaskName {
    /// All of them, in the order of the paper's table.
    pub const ALL: [TaskName; 7] = [
        TaskName::BoolQ,
        TaskName::Piqa,
        TaskName::HellaSwag,
        TaskName::WinoGrande,
        TaskName::ArcEasy,
        TaskName::ArcChallenge,
        TaskName::OpenBookQa,
    ];

    /// The name used on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            TaskName::BoolQ => "boolq",
            TaskName::Piqa => "piqa",
            TaskName::HellaSwag => "hellaswag",
            TaskName::WinoGrande => "winogrande",
            TaskName::ArcEasy => "arc-easy",
            TaskName::ArcChallenge => "arc-challenge",
            TaskName::OpenBookQa => "openbookqa",
        }
    }

    /// Whether lm-eval gives `acc_norm` for it: where answers differ in their text, not in their context alone, and are
    /// more than yes and no.
    pub fn has_acc_norm(self) -> bool {
        !matches!(self, TaskName::BoolQ | TaskName::WinoGrande)
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TaskName {
    type Err = Error;

    /// Reads a name, in any case, with `-` or `_`.
    fn from_str(text: &str) -> Result<TaskName, Error> {
        let wanted = text.to_ascii_lowercase().replace('_', "-");
        TaskName::ALL.into_iter().find(|task| task.name() == wanted).ok_or_else(|| {
            let names = TaskName::ALL.map(TaskName::name).join(", ");
            Error::Setting(format!("there is no task `{text}`; there is: {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_spelling() {
        for task in TaskName::ALL {
            assert_eq!(task.name().parse::<TaskName>().unwrap(), task);
            assert_eq!(task.name().to_uppercase().replace('-', "_").parse::<TaskName>().unwrap(), task);
            assert_eq!(serde_json::to_value(task).unwrap(), task.name());
        }
        let error = "arc".parse::<TaskName>().unwrap_err().to_string();
        assert!(error.contains("`arc`") && error.contains("arc-easy, arc-challenge"), "{error}");
    }
}

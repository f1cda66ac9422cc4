//! Accuracies of answered questions.

use super::questions::{Question, Questions};
use crate::error::{Error, Result};

/// A share of right answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accuracy {
    /// The share, 0 to 1.
    pub value: f64,
    /// Standard error of the mean, from the sample's variance; `None` for a single question.
    pub stderr: Option<f64>,
}

/// How one question was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Sum over the ending's tokens for every answer, in nats.
    pub log_likelihoods: Vec<f64>,
    /// The answer of the largest; of equals the first.
    pub chosen: usize,
    /// The answer of the largest likelihood by character.
    pub chosen_norm: usize,
    /// The right one.
    pub gold: usize,
}

/// What came out of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskOutcome {
    /// The answer with the largest log likelihood is right.
    pub acc: Accuracy,
    /// The answer with the largest log likelihood by character is right; `None` for tasks that lm-eval does not give it for.
    pub acc_norm: Option<Accuracy>,
    /// By question.
    pub predictions: Vec<Prediction>,
}

impl Accuracy {
    fn of(right: impl Iterator<Item = bool>) -> Accuracy {
        let (mut count, mut hits) = (0.0, 0.0);
        for right in right {
            count += 1.0;
            hits += f64::from(u8::from(right));
        }
        let value: f64 = hits / count;
        // The sample's variance of ones and zeros is count / (count - 1) * value * (1 - value).
        let stderr = (count > 1.0).then(|| (value * (1.0 - value) / (count - 1.0)).sqrt());
        Accuracy { value, stderr }
    }
}

impl Questions {
    /// The outcome of `log_likelihoods`, one for every answer of every question.
    ///
    /// # Errors
    /// [`Error::Internal`] if their number is wrong, [`Error::Device`] if one is not a number.
    pub fn outcome(&self, log_likelihoods: &[f64]) -> Result<TaskOutcome> {
        if log_likelihoods.len() != self.answers() || self.is_empty() {
            let (given, needed) = (log_likelihoods.len(), self.answers());
            return Err(Error::Internal(format!("{given} likelihoods for {needed} answers")));
        }
        let predictions: Vec<Prediction> = self
            .questions
            .iter()
            .map(|question| predict(question, &log_likelihoods[question.first..][..question.chars.len()]))
            .collect::<Result<_>>()?;
        let acc = Accuracy::of(predictions.iter().map(|one| one.chosen == one.gold));
        let acc_norm =
            self.task.has_acc_norm().then(|| Accuracy::of(predictions.iter().map(|one| one.chosen_norm == one.gold)));
        Ok(TaskOutcome { acc, acc_norm, predictions })
    }
}

fn predict(question: &Question, log_likelihoods: &[f64]) -> Result<Prediction> {
    if let Some(value) = log_likelihoods.iter().find(|value| value.is_nan()) {
        return Err(Error::Device(format!("the log likelihood of an answer is {value}: the model's numbers overflow")));
    }
    let by_char: Vec<f64> =
        log_likelihoods.iter().zip(&question.chars).map(|(value, &chars)| value / chars as f64).collect();
    Ok(Prediction {
        log_likelihoods: log_likelihoods.to_vec(),
        chosen: first_largest(log_likelihoods),
        chosen_norm: first_largest(&by_char),
        gold: question.gold,
    })
}

fn first_largest(values: &[f64]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if values.get(best).is_none_or(|largest| value > largest) {
            best = index;
        }
    }
    best
}

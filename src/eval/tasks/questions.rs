//! Questions as tokens, cut into pieces of work.

use super::{TaskData, TaskName, item};
use crate::engine::{Scorer, Target};
use crate::error::{Error, Result};
use crate::prune::Selector;
use crate::text::{Special, Tokenizer};
use std::collections::HashMap;

/// An answer's place in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Index of the answer among all answers of all questions.
    pub answer: usize,
    /// Its tokens. The last of them is not part of the request's input: nothing follows it.
    pub tokens: Vec<u32>,
}

/// Tokens to run, and the answers whose likelihood they give: several, where answers differ in their last token alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What runs: context and endings without their last token.
    pub input: Vec<u32>,
    /// What is scored.
    pub endings: Vec<Ending>,
}

/// The log likelihood of one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Index of the answer among all answers of all questions.
    pub answer: usize,
    /// Sum over the tokens of its ending, in nats.
    pub log_likelihood: f64,
}

/// What belongs to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// Index of its first answer.
    pub first: usize,
    /// Characters of each answer.
    pub chars: Vec<usize>,
    /// Index of the right one, from 0.
    pub gold: usize,
}

/// All questions of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Questions {
    /// What they are.
    pub task: TaskName,
    /// What is to be run, in the order of the questions.
    pub requests: Vec<Request>,
    /// Answers whose context was cut on the left to fit.
    pub truncated: usize,
    pub(super) questions: Vec<Question>,
    answers: usize,
}

impl Questions {
    /// Cuts questions into tokens for a model of `context` positions. Context and ending are cut together, so that the
    /// tokens are those of the running text; a context too long loses its beginning.
    ///
    /// # Errors
    /// [`Error::BadFile`] for an answer without a token of its own, or one longer than the context; those of
    /// [`Tokenizer::encode`].
    pub fn new(data: &TaskData, tokenizer: &Tokenizer, context: usize) -> Result<Questions> {
        let mut all = Questions {
            task: data.task,
            requests: Vec::new(),
            truncated: 0,
            questions: Vec::with_capacity(data.items.len()),
            answers: 0,
        };
        let mut known: HashMap<Vec<u32>, usize> = HashMap::new();
        for (row, item) in data.items.iter().enumerate() {
            let bad = |what: String| Error::bad_file(&data.path, format!("question {}: {what}", row + 1));
            let chars = item.choices.iter().map(|choice| choice.chars).collect();
            all.questions.push(Question { first: all.answers, chars, gold: item.gold });
            for choice in &item.choices {
                let (mut input, tokens) = encode_pair(tokenizer, &choice.context, &choice.ending)?;
                if input.is_empty() || tokens.is_empty() {
                    return Err(bad("an answer has no token of its own behind its context".into()));
                }
                if tokens.len() > context {
                    let what = format!("an answer of {} tokens, but the model's context is {context}", tokens.len());
                    return Err(bad(what));
                }
                input.extend(tokens.iter().take(tokens.len() - 1));
                all.truncated += usize::from(input.len() > context);
                input.drain(..input.len().saturating_sub(context));
                let ending = Ending { answer: all.answers, tokens };
                all.answers += 1;
                match known.get(&input).and_then(|&at| all.requests.get_mut(at)) {
                    Some(request) => request.endings.push(ending),
                    None => {
                        known.insert(input.clone(), all.requests.len());
                        all.requests.push(Request { input, endings: vec![ending] });
                    }
                }
            }
        }
        Ok(all)
    }

    /// Number of questions.
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// Number of answers of all questions.
    pub fn answers(&self) -> usize {
        self.answers
    }

    /// Tokens of the longest request.
    pub fn longest(&self) -> usize {
        self.requests.iter().map(|request| request.input.len()).max().unwrap_or(0)
    }

    /// The requests in batches, as indices into [`Questions::requests`]: the longest first, those of one length in the order
    /// of their tokens. It depends on the requests and the size alone.
    pub fn batches(&self, size: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<(usize, &Request)> = self.requests.iter().enumerate().collect();
        order.sort_by(|(_, one), (_, other)| {
            other.input.len().cmp(&one.input.len()).then_with(|| one.input.cmp(&other.input))
        });
        order.chunks(size.max(1)).map(|batch| batch.iter().map(|(index, _)| *index).collect()).collect()
    }
}

/// Runs requests as one batch, the shorter padded on the right, and gives the likelihood of each of their answers.
///
/// # Errors
/// Those of [`Scorer::nll_of`], and [`Error::Internal`] for a request shorter than its ending.
pub fn score_batch(scorer: &mut Scorer, selector: &mut dyn Selector, requests: &[&Request]) -> Result<Vec<Scored>> {
    let inputs: Vec<Vec<u32>> = requests.iter().map(|request| request.input.clone()).collect();
    let mut targets: Vec<Vec<Target>> = Vec::with_capacity(requests.len());
    for request in requests {
        let mut of_sample = Vec::new();
        for ending in &request.endings {
            // The token before the ending's first predicts that one, and so on; the input's last token its last.
            let first = request.input.len().checked_sub(ending.tokens.len()).ok_or_else(|| {
                Error::Internal(format!("{} tokens run for an ending of {}", request.input.len(), ending.tokens.len()))
            })?;
            let predicted = ending.tokens.iter().enumerate();
            of_sample.extend(predicted.map(|(at, &token)| Target { position: first + at, token }));
        }
        targets.push(of_sample);
    }
    let nll = scorer.nll_of(&inputs, &targets, selector)?;
    let mut scored = Vec::new();
    for (request, nll) in requests.iter().zip(&nll) {
        let mut values = nll.iter();
        for ending in &request.endings {
            let sum: f64 = values.by_ref().take(ending.tokens.len()).map(|&value| f64::from(value)).sum();
            scored.push(Scored { answer: ending.answer, log_likelihood: -sum });
        }
    }
    Ok(scored)
}

/// The tokens of a context and of the ending behind it. Blanks at the context's end belong to the ending, and where the
/// two are cut is where the context on its own would end: both as lm-eval has it.
fn encode_pair(tokenizer: &Tokenizer, context: &str, ending: &str) -> Result<(Vec<u32>, Vec<u32>)> {
    let bare = context.trim_end_matches(item::is_space);
    if context.is_empty() {
        // Something must come before the first token.
        let opening = tokenizer.bos().or_else(|| tokenizer.eos_ids().first().copied());
        return Ok((opening.into_iter().collect(), tokenizer.encode(ending, Special::Text)?));
    }
    let mut whole = tokenizer.encode_with_bos(&format!("{context}{ending}"), Special::Text)?;
    let context = tokenizer.encode_with_bos(bare, Special::Text)?;
    let tokens = whole.split_off(context.len().min(whole.len()));
    Ok((context, tokens))
}

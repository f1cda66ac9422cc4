//! Batches on an engine.

use super::log::BatchResult;
use super::runner::Work;
use super::schema::{DataKind, DataRecord, Quality, QualityName};
use super::spec::Arm;
use super::tally::Measure;
use crate::config::{HistoryKind, Method, PruneConfig};
use crate::engine::{Engine, Scorer};
use crate::error::{Error, Result};
use crate::eval::data::{Chunks, TextData};
use crate::eval::perplexity;
use crate::eval::tasks::{self, Accuracy, Questions, Request, TaskData};
use crate::prune::{Chooser, Flops, Knowledge, LayerPlan};
use std::sync::Arc;

/// A data set, cut into batches.
#[derive(Debug)]
pub struct DataSet {
    /// What results say of it.
    pub record: DataRecord,
    batches: Batches,
}

#[derive(Debug)]
enum Batches {
    /// Chunks of one length each.
    Text(Vec<Vec<Vec<u32>>>),
    /// Indices of requests, by batch.
    Task(Questions, Vec<Vec<usize>>),
}

impl DataSet {
    /// A text in batches of so many chunks.
    pub fn text(name: &str, data: &TextData, chunks: &Chunks, batch: usize) -> DataSet {
        let batches: Vec<Vec<Vec<u32>>> = chunks.ids.chunks(batch.max(1)).map(<[Vec<u32>]>::to_vec).collect();
        let record = DataRecord {
            data: name.to_string(),
            data_kind: DataKind::Text,
            data_sha256: data.sha256.clone(),
            data_chars: Some(data.text.chars().count()),
            data_rows: chunks.ids.len(),
            data_bos: false,
            data_batches: batches.len(),
            data_tokens: Some(chunks.ids.iter().map(|chunk| chunk.len() - 1).sum()),
        };
        DataSet { record, batches: Batches::Text(batches) }
    }

    /// Questions in batches of so many requests; `bos` is whether the tokenizer opened them with a special token.
    pub fn task(data: &TaskData, questions: Questions, batch: usize, bos: bool) -> DataSet {
        let batches = questions.batches(batch);
        let record = DataRecord {
            data: data.task.name().to_string(),
            data_kind: DataKind::Task,
            data_sha256: data.sha256.clone(),
            data_chars: None,
            data_rows: questions.len(),
            data_bos: bos,
            data_batches: batches.len(),
            data_tokens: None,
        };
        DataSet { record, batches: Batches::Task(questions, batches) }
    }

    /// Samples of its largest batch, and tokens of its longest sample.
    pub fn largest(&self) -> (usize, usize) {
        match &self.batches {
            Batches::Text(batches) => {
                let longest = batches.iter().flatten().map(Vec::len).max();
                (batches.iter().map(Vec::len).max().unwrap_or(0), longest.unwrap_or(0))
            }
            Batches::Task(questions, batches) => (batches.iter().map(Vec::len).max().unwrap_or(0), questions.longest()),
        }
    }
}

impl Measure for DataSet {
    fn qualities(&self, results: &[&BatchResult]) -> Result<Vec<Quality>> {
        match &self.batches {
            Batches::Text(_) => {
                let sum: f64 = results.iter().flat_map(|result| &result.scores).sum();
                let nll = sum / results.iter().map(|result| result.scored as f64).sum::<f64>();
                Ok(vec![Quality { quality: QualityName::Perplexity, value: nll.exp(), stderr: None, nll: Some(nll) }])
            }
            Batches::Task(questions, batches) => {
                let mut likelihoods = vec![0.0; questions.answers()];
                for (batch, result) in batches.iter().zip(results) {
                    let answers = requests(questions, batch).flat_map(|request| &request.endings);
                    for (ending, &score) in answers.zip(&result.scores) {
                        likelihoods[ending.answer] = score;
                    }
                }
                let outcome = questions.outcome(&likelihoods)?;
                let named = [(QualityName::Acc, Some(outcome.acc)), (QualityName::AccNorm, outcome.acc_norm)];
                let of = |(quality, accuracy): (_, Option<Accuracy>)| {
                    accuracy.map(|a| Quality { quality, value: a.value, stderr: a.stderr, nll: None })
                };
                Ok(named.into_iter().filter_map(of).collect())
            }
        }
    }
}

fn requests<'a>(questions: &'a Questions, batch: &'a [usize]) -> impl Iterator<Item = &'a Request> {
    batch.iter().filter_map(|&index| questions.requests.get(index))
}

/// What an arm runs on.
#[derive(Clone)]
pub struct Place {
    /// The model, with the arm's adapter where it has one.
    pub engine: Arc<Engine>,
    /// What its method builds on.
    pub known: Knowledge,
}

/// Arms at work on data sets, one batch at a time.
pub struct EngineWork<'a> {
    data: &'a [DataSet],
    arms: &'a [Arm],
    /// Of every arm.
    places: Vec<Place>,
    /// One an engine.
    scorers: Vec<Scorer>,
    /// Which one each arm uses.
    scorer_of: Vec<usize>,
    choosers: Vec<Chooser>,
    /// Tokens of the longest sample of all data.
    length: usize,
}

impl<'a> EngineWork<'a> {
    /// Prepares every arm at its place, so that what cannot be run is found before anything long starts.
    ///
    /// # Errors
    /// [`Error::Setting`] for samples longer than the calibration; those of [`Engine::chooser`], for an arm by its name, and
    /// of [`Scorer::new`].
    pub fn new(data: &'a [DataSet], arms: &'a [Arm], places: Vec<Place>) -> Result<EngineWork<'a>> {
        let largest: Vec<(usize, usize)> = data.iter().map(DataSet::largest).collect();
        let samples = largest.iter().map(|(samples, _)| *samples).max().unwrap_or(0);
        let length = largest.iter().map(|(_, length)| *length).max().unwrap_or(0);
        let (mut engines, mut scorers, mut scorer_of): (Vec<&Arc<Engine>>, Vec<Scorer>, Vec<usize>) =
            Default::default();
        let mut choosers = Vec::with_capacity(arms.len());
        if arms.len() != places.len() {
            return Err(Error::Internal(format!("{} places for {} arms", places.len(), arms.len())));
        }
        for (arm, Place { engine, known }) in arms.iter().zip(&places) {
            let at = match engines.iter().position(|other| Arc::ptr_eq(other, engine)) {
                Some(at) => at,
                None => {
                    engines.push(engine);
                    scorers.push(Scorer::new(engine, samples, length)?);
                    scorers.len() - 1
                }
            };
            scorer_of.push(at);
            let chooser = engine.chooser(&arm.prune, known, length)?;
            if let Some(history) = chooser.history() {
                history.check(length)?;
            }
            choosers.push(chooser);
        }
        Ok(EngineWork { data, arms, places, scorers, scorer_of, choosers, length })
    }

    /// Kept units of every arm, by layer.
    pub fn kept(&self) -> Vec<Vec<LayerPlan>> {
        self.choosers.iter().map(|chooser| chooser.plan().layers.clone()).collect()
    }

    fn text(&mut self, arm: usize, samples: &[Vec<u32>]) -> Result<BatchResult> {
        let batch = perplexity::score(&mut self.scorers[self.scorer_of[arm]], &mut self.choosers[arm], samples)?;
        let tokens = samples.iter().map(Vec::len).sum();
        Ok(result(batch.seconds, (tokens, batch.tokens), vec![batch.nll], batch.flops))
    }

    fn task(&mut self, arm: usize, questions: &Questions, batch: &[usize]) -> Result<BatchResult> {
        let requests: Vec<&Request> = requests(questions, batch).collect();
        let batch = tasks::score(&mut self.scorers[self.scorer_of[arm]], &mut self.choosers[arm], &requests)?;
        let scores = batch.scored.iter().map(|scored| scored.log_likelihood).collect();
        Ok(result(batch.seconds, (batch.tokens, 0), scores, batch.flops))
    }
}

fn result(seconds: f64, (tokens, scored): (usize, usize), scores: Vec<f64>, flops: Flops) -> BatchResult {
    BatchResult {
        seconds,
        tokens,
        scored,
        scores,
        flops_pass: flops.pass,
        flops_probe: flops.probe,
        flops_dense: flops.dense,
    }
}

/// Whether a method's history follows its batches.
fn remembers(prune: &PruneConfig) -> bool {
    prune.method == Method::Pp && prune.history != HistoryKind::Off
}

impl Work for EngineWork<'_> {
    fn follows(&self, arm: usize) -> bool {
        remembers(&self.arms[arm].prune)
    }

    fn start(&mut self, arm: usize, _data: usize) -> Result<()> {
        // The others are what they were.
        if self.follows(arm) {
            let Place { engine, known } = &self.places[arm];
            self.choosers[arm] = engine.chooser(&self.arms[arm].prune, known, self.length)?;
        }
        Ok(())
    }

    fn run(&mut self, arm: usize, data: usize, batch: usize) -> Result<BatchResult> {
        let sets = self.data;
        let missing = || Error::Internal(format!("there is no batch {batch} of data set {data}"));
        let set = sets.get(data).ok_or_else(missing)?;
        // What is made ready here is not part of the time: buffers for a batch of a new shape.
        let shape = match &set.batches {
            Batches::Text(batches) => {
                let samples = batches.get(batch).ok_or_else(missing)?;
                (samples.len(), samples.first().map_or(0, Vec::len))
            }
            Batches::Task(questions, batches) => {
                let requests: Vec<&Request> = requests(questions, batches.get(batch).ok_or_else(missing)?).collect();
                (requests.len(), requests.iter().map(|request| request.input.len()).max().unwrap_or(0))
            }
        };
        self.choosers[arm].prepare(shape.0, shape.1)?;
        self.places[arm].engine.gpu().wait()?;
        match &set.batches {
            Batches::Text(batches) => self.text(arm, &batches[batch]),
            Batches::Task(questions, batches) => self.task(arm, questions, &batches[batch]),
        }
    }
}

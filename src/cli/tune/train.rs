//! What commands that train share: their options, their samples, and the loop around the steps.

use super::super::interrupt::{self, Work};
use super::super::knowledge::samples_of;
use super::super::load::{Opened, data_file};
use super::super::options::positive;
use super::super::output::{bytes, note, say};
use super::super::progress::{Unit, bar};
use anyhow::{Context, Result};
use clap::Args;
use secateur::Error;
use secateur::config::HistoryKind;
use secateur::eval::calibrate::CalibrateOptions;
use secateur::eval::data::TextData;
use secateur::eval::instructions::Instructions;
use secateur::model::adapter::Adapter;
use secateur::tune::{self, Processor, Sample, TARGETS, TrainOptions, Trained, Training};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A run that is not finished, in the adapter's folder.
const CHECKPOINT: &str = "checkpoint.safetensors";
/// Every step of a run, in the adapter's folder.
const STEPS: &str = "steps.csv";
/// A line is written every so often where there is no bar.
const LINE: Duration = Duration::from_secs(30);

/// What to learn from, and how.
#[derive(Debug, Args)]
#[command(next_help_heading = "Training")]
pub struct TrainArgs {
    /// Instructions (.jsonl or .json with Alpaca's fields `instruction`, `input`, `output`), or a text as for `calibrate`
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Learn from the first N rows, or chunks of the text [default: all]
    #[arg(long, value_name = "N", value_parser = positive)]
    samples: Option<usize>,
    /// Longest sample in tokens; of instructions, what is longer is cut
    #[arg(long, value_name = "T", default_value_t = 256)]
    seq_len: usize,
    /// Learn the instructions too, and not their answers alone
    #[arg(long)]
    learn_prompts: bool,
    /// Steps of the optimizer [default: twice through the samples]
    #[arg(long, value_name = "N", value_parser = positive)]
    steps: Option<usize>,
    /// Samples of a step; they run one by one [default: 64, of loraprune 128, where there are as many]
    #[arg(long, value_name = "N", value_parser = positive)]
    batch: Option<usize>,
    /// Highest learning rate [default: 1e-4, of loraprune 3e-4]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    learning_rate: Option<f64>,
    /// Steps until it is reached; then it falls along a cosine [default: 6 % of the steps]
    #[arg(long, value_name = "N")]
    warmup_steps: Option<usize>,
    /// Rank of the factors
    #[arg(long, value_name = "R", default_value_t = 8)]
    rank: usize,
    /// The factors' product is scaled by ALPHA / rank
    #[arg(long, value_name = "ALPHA", default_value_t = 16.0, allow_negative_numbers = true)]
    alpha: f32,
    /// Projections that get factors [default: q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj, of loraprune from o_proj on]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    targets: Option<Vec<String>>,
    /// Weight decay of AdamW
    #[arg(long, value_name = "DECAY", default_value_t = 0.0, allow_negative_numbers = true)]
    weight_decay: f32,
    /// Scale gradients down to this norm where theirs is larger
    #[arg(long, value_name = "NORM", default_value_t = 1.0, allow_negative_numbers = true)]
    max_grad_norm: f64,
    /// Seed of the factors' first values and of the samples' order
    #[arg(long, value_name = "N", default_value_t = 0)]
    train_seed: u64,
    /// Keep the run on disk every N steps; the same command goes on from there
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = positive)]
    checkpoint_every: usize,
    /// Begin anew, and throw away what an earlier run left
    #[arg(long)]
    restart: bool,
}

/// Where the two methods differ where nothing is said.
pub struct Defaults {
    /// Samples of a step.
    pub batch: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// How many of the last [`TARGETS`].
    pub targets: usize,
}

/// Samples, and the data they are from.
pub struct Lessons {
    /// The samples.
    pub samples: Vec<Sample>,
    /// The file.
    pub data: PathBuf,
    /// Its SHA-256.
    pub sha256: String,
}

impl Lessons {
    /// Says what is learnt from, and for how long.
    pub fn announce(&self, options: &TrainOptions) {
        let (samples, data, hash) = (self.samples.len(), self.data.display(), &self.sha256[..12]);
        say(&format!("{samples} samples of {data} (SHA-256 {hash}), {} steps of {}", options.steps, options.batch));
    }
}

/// What a run has made, for people.
pub fn adapter_line(folder: &Path, adapter: &Adapter, training: &Training<'_>) -> String {
    let (rank, parameters) = (adapter.rank(), adapter.parameters());
    let loss = training.losses().last().copied().unwrap_or(f64::NAN);
    format!("{}: rank {rank}, {parameters} parameters; the last loss is {loss:.4}\n", folder.display())
}

impl TrainArgs {
    /// Reads and encodes the data.
    pub fn lessons(&self, opened: &Opened) -> Result<Lessons> {
        let path = data_file(&self.data)?;
        if !Instructions::are_in(&path)? {
            let data = TextData::read(&path, None)?;
            let samples = self.samples.unwrap_or(usize::MAX);
            let options =
                CalibrateOptions { samples, seq_len: self.seq_len, batch: 1, seed: None, positions: HistoryKind::Off };
            let ids = match self.samples {
                Some(_) => samples_of(&data, opened, &options)?,
                None => secateur::eval::calibrate::samples(&data, &opened.tokenizer, &options)?,
            };
            let samples = ids.into_iter().map(Sample::whole).collect();
            return Ok(Lessons { samples, data: path, sha256: data.sha256 });
        }
        let instructions = Instructions::read(&path, self.samples)?;
        let template = opened.template()?;
        let (mut samples, mut cut, mut without) = (Vec::new(), 0, 0);
        for row in &instructions.rows {
            let mut encoded = row.encode(&opened.tokenizer, &template)?;
            if encoded.prompt >= self.seq_len {
                without += 1;
                continue;
            }
            cut += usize::from(encoded.ids.len() > self.seq_len);
            encoded.ids.truncate(self.seq_len);
            let first = if self.learn_prompts { 1 } else { encoded.prompt.max(1) };
            samples.push(Sample { ids: encoded.ids, first });
        }
        if without > 0 {
            let of = instructions.rows.len();
            note(&format!(
                "left out: {without} of {of} rows, whose prompts alone have --seq-len {} tokens",
                self.seq_len
            ));
        }
        if cut > 0 {
            note(&format!("cut at --seq-len {} tokens: {cut} of {} answers", self.seq_len, samples.len()));
        }
        if samples.is_empty() {
            let what = format!("no row leaves room for an answer in --seq-len {} tokens", self.seq_len);
            return Err(Error::bad_file(&path, what).into());
        }
        Ok(Lessons { samples, data: path, sha256: instructions.sha256 })
    }

    /// The settings, for so many samples.
    pub fn options(&self, samples: usize, defaults: &Defaults) -> Result<TrainOptions> {
        let batch = self.batch.unwrap_or(defaults.batch.min(samples.max(1)));
        let steps = self.steps.unwrap_or((2 * samples).div_ceil(batch));
        let names = &TARGETS[TARGETS.len() - defaults.targets..];
        let options = TrainOptions {
            rank: self.rank,
            alpha: self.alpha,
            targets: self
                .targets
                .clone()
                .unwrap_or_else(|| names.iter().map(|(name, _)| (*name).to_string()).collect()),
            steps,
            batch,
            learning_rate: self.learning_rate.unwrap_or(defaults.learning_rate),
            warmup_steps: self.warmup_steps.unwrap_or(steps * 6 / 100),
            weight_decay: self.weight_decay,
            max_grad_norm: self.max_grad_norm,
            seed: self.train_seed,
        };
        options.validate()?;
        Ok(options)
    }

    /// Says what a run needs, and refuses one that the memory cannot hold.
    pub fn check_memory(
        &self,
        opened: &Opened,
        processor: &Processor,
        (options, lessons): (&TrainOptions, &Lessons),
        gradual: bool,
    ) -> Result<()> {
        let longest = lessons.samples.iter().map(|sample| sample.ids.len()).max().unwrap_or(0);
        let needed = tune::training_bytes(&opened.files.config, options, longest, gradual)?;
        let free = processor.memory_available().map_or_else(String::new, |free| format!(" of {} free", bytes(free)));
        note(&format!("this needs about {}{free}, on {}", bytes(needed), processor.name()));
        Ok(tune::check_memory(
            processor,
            needed,
            "free memory in bytes; use a smaller --seq-len, a smaller --rank or a smaller model",
        )?)
    }

    /// Makes the adapter's folder, or finds the run that it holds.
    ///
    /// A folder that holds a finished adapter is not written over.
    pub fn prepare_folder(&self, folder: &Path) -> Result<()> {
        if folder.join("adapter_config.json").exists() {
            let what = "there is an adapter already: choose another folder, or remove this one";
            return Err(Error::bad_file(folder, what).into());
        }
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        if self.restart {
            for name in [CHECKPOINT, STEPS] {
                let path = folder.join(name);
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::io("remove", &path)(error).into());
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Takes all steps that are left, keeping the run in `folder` on the way.
    pub fn run(&self, name: &str, folder: &Path, training: &mut Training<'_>) -> Result<()> {
        let (checkpoint, table) = (folder.join(CHECKPOINT), folder.join(STEPS));
        if checkpoint.exists() {
            training.resume(&checkpoint)?;
            note(&format!("going on behind step {} of {}", training.losses().len(), training.steps()));
        }
        let mut lines = Lines::open(&table, training.losses().len())?;
        let (work, bar, started) = (Work::start(), bar(name, training.steps() as u64, Unit::Steps), Instant::now());
        bar.set_position(training.losses().len() as u64);
        let before = training.losses().len();
        let mut told = Instant::now();
        let mut heard = |_: usize, _: usize| if work.asked_to_stop() { Err(Error::Cancelled) } else { Ok(()) };
        let ended = loop {
            match training.step(&mut heard) {
                Ok(Some(trained)) => {
                    lines.add(&trained)?;
                    bar.set_position(trained.step as u64);
                    bar.set_message(format!("{name}, loss {:.3}", trained.loss));
                    if bar.is_hidden() && (told.elapsed() >= LINE || trained.step == trained.steps) {
                        told = Instant::now();
                        say(&line(&trained));
                    }
                    if trained.step % self.checkpoint_every == 0 && trained.step < trained.steps {
                        training.save(&checkpoint)?;
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        bar.finish_and_clear();
        let taken = training.losses().len() - before;
        if let Err(error) = ended {
            // What is there is good: a step that fails changes nothing.
            let (done, steps, path) = (training.losses().len(), training.steps(), checkpoint.display());
            let what = match training.save(&checkpoint) {
                Ok(()) => format!("{done} of {steps} steps lie in {path}: the same command goes on there"),
                // The first error is what to know of; an earlier checkpoint is still whole.
                Err(also) => {
                    format!("{done} of {steps} steps were taken, and those since the last checkpoint are lost ({also})")
                }
            };
            return Err(error).context(what);
        }
        note(&format!("{taken} steps in {:.1} s", started.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Forgets the run behind a finished adapter.
    pub fn finish(&self, folder: &Path) {
        // It is of no use any more; if it stays, it harms nobody.
        let _ = fs::remove_file(folder.join(CHECKPOINT));
    }
}

fn line(trained: &Trained) -> String {
    let Trained { step, steps, loss, learning_rate, ratio } = trained;
    let ratio = ratio.map_or(String::new(), |ratio| format!(", ratio {ratio:.3}"));
    format!("step {step} of {steps}: loss {loss:.4}, learning rate {learning_rate:.2e}{ratio}")
}

/// The table of steps.
struct Lines {
    path: PathBuf,
    file: fs::File,
}

impl Lines {
    const HEADER: &'static str = "step,loss,learning_rate,ratio";

    /// Opens the table, and cuts off what an earlier run wrote behind its last checkpoint.
    fn open(path: &Path, steps: usize) -> Result<Lines> {
        let before = match fs::read_to_string(path) {
            Ok(text) if steps > 0 => text,
            _ => String::new(),
        };
        let kept: String = std::iter::once(Self::HEADER)
            .chain(before.lines().skip(1).take(steps))
            .map(|line| format!("{line}\n"))
            .collect();
        fs::write(path, kept).map_err(Error::io("write", path))?;
        let file = fs::OpenOptions::new().append(true).open(path).map_err(Error::io("open", path))?;
        Ok(Lines { path: path.to_path_buf(), file })
    }

    fn add(&mut self, trained: &Trained) -> Result<()> {
        let ratio = trained.ratio.map_or(String::new(), |ratio| ratio.to_string());
        let line = format!("{},{},{},{ratio}\n", trained.step, trained.loss, trained.learning_rate);
        Ok(self.file.write_all(line.as_bytes()).map_err(Error::io("write", &self.path))?)
    }
}

/// Takes over Ctrl-C: from here on a run ends at a step's end.
pub fn install() -> Result<()> {
    interrupt::install()
}

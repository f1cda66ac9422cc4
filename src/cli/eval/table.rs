//! `secateur eval table`: methods by ratios by data sets in one run.

mod tuned;

use crate::cli::interrupt;
use crate::cli::knowledge::{KnowledgeOptions, Prepared};
use crate::cli::load::{Loaded, Opened, data_file};
use crate::cli::options::{MethodName, ModelOptions, ProbeOptions, PruneOptions};
use crate::cli::output::{JsonOption, note, print, say};
use crate::cli::progress::{Unit, bar};
use anyhow::{Context, Result};
use clap::Args;
use indicatif::ProgressBar;
use secateur::Error;
use secateur::config::Method;
use secateur::eval::data::TextData;
use secateur::eval::report::ModelRecord;
use secateur::eval::table::{
    Activity, Arm, DataSet, Ended, EngineWork, Fingerprint, Log, Measure, MethodSpec, Progress, Protocol, Schedule,
    Spec, Table, TaskSpec, TunedSpec, Watch, check_out, json, markdown, rows, run as run_steps, write_all,
};
use secateur::eval::tasks::{FewShot, Questions, TaskData, TaskName};
use std::path::PathBuf;
use tuned::Tuned;

/// Arguments of `secateur eval table`.
#[derive(Debug, Args)]
pub struct TableArgs {
    /// Folder for the table (JSON, CSV, Markdown, SVG) and for the log of a run that is not finished
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Go on with the run that was interrupted in --out
    #[arg(long)]
    resume: bool,
    /// A description of the table in TOML or JSON; data, counts and methods that are given here win over its own
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// The methods; dense is always there [default: full-batch,pp]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "METHODS")]
    methods: Option<Vec<MethodName>>,
    /// Wished mean pruning ratios, in (0, 1) [default: 0.2,0.4]
    #[arg(long, value_delimiter = ',', value_name = "RATIOS", allow_negative_numbers = true)]
    ratios: Option<Vec<f64>>,
    /// Units of files, as `secateur masks` and `secateur tune` write them, each with a LoRA adapter where it has one
    #[arg(long, num_args = 1.., value_name = "[NAME=]MASKS[,ADAPTER]")]
    tuned: Option<Vec<TunedSpec>>,
    /// Texts for perplexity: files as for `eval perplexity`, each with a name of its own where wanted
    #[arg(long, num_args = 1.., value_name = "[NAME=]FILE")]
    data: Option<Vec<String>>,
    /// Questions with given answers: boolq, piqa, hellaswag, winogrande, arc-easy, arc-challenge, openbookqa
    #[arg(long, num_args = 1.., value_name = "NAME=FILE", value_parser = task)]
    task: Option<Vec<TaskSpec>>,
    /// Use only the first N characters of each text
    #[arg(long, value_name = "N")]
    max_chars: Option<usize>,
    /// Use only the first N questions of each task
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Tokens of a chunk of text [default: 256]
    #[arg(long, value_name = "T")]
    seq_len: Option<usize>,
    /// Chunks of a batch, or requests of one [default: 10]
    #[arg(long, value_name = "B")]
    batch: Option<usize>,
    /// Batches of each text [default: 4]
    #[arg(long, value_name = "N")]
    batches: Option<usize>,
    /// Passes over all data, for more timings [default: 1]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Seed of the order in which methods take turns [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    probe: ProbeOptions,
    #[command(flatten)]
    knowledge: KnowledgeOptions,
    #[command(flatten)]
    json: JsonOption,
}

fn task(text: &str) -> Result<TaskSpec, String> {
    match text.split_once('=') {
        Some((name, path)) if !path.is_empty() => {
            let name = name.parse::<TaskName>().map_err(|error| error.to_string())?;
            Ok(TaskSpec { name: name.name().to_string(), data: PathBuf::from(path) })
        }
        _ => Err("a task and its file, as in piqa=piqa.jsonl".into()),
    }
}

/// Measures, or goes on measuring, and writes the table.
pub fn run(args: &TableArgs) -> Result<()> {
    let spec = spec(args)?;
    let mut arms = spec.arms(&args.probe.config())?;
    let json_sink = args.json.open()?;
    check_out(&args.out, args.resume)?;
    let opened = Opened::open(&args.model)?;
    let mut tuned = Tuned::open(&spec.tuned, &opened, &mut arms)?;
    let data = data_sets(&spec, &opened)?;
    let model = opened.record()?;
    let sha256 = model.model_sha256.clone();
    let prepared = prepare(args, &spec, (&opened, &sha256), (&arms, &data))?;
    // On the device, adapted weights are not needed in main memory.
    let (loaded, adapted) = opened.load_with(&args.model, &std::mem::take(&mut tuned.models))?;

    let fingerprint = fingerprint(&spec, model, (&arms, &data), (&prepared, &opened, &loaded))?;
    let batches = data.iter().map(|set| set.record.data_batches).collect();
    let schedule = Schedule { arms: arms.len(), batches, rounds: spec.rounds, seed: spec.seed };
    // Before anything long: a log of something else is found here.
    let resumed = if args.resume { Some(Log::resume(&args.out, &fingerprint, &schedule)?) } else { None };
    let known = prepared.finish(&opened, &loaded.engine)?;
    let mut work = EngineWork::new(&data, &arms, tuned.places(&arms, &known.knowledge, (&loaded.engine, &adapted)))?;
    let mut log = match resumed {
        Some(log) => log,
        None => Log::create(&args.out, &fingerprint)?,
    };
    if args.resume {
        note(&format!("{} batches of methods are known already", log.lines().len()));
    }

    interrupt::install()?;
    let total = schedule.steps().len() * schedule.arms;
    let mut watch = Bar::new(&fingerprint, total, log.lines().len());
    let ended = run_steps(&schedule, &mut log, &mut work, &mut watch);
    watch.bar.finish_and_clear();
    if let Ended::Stopped { steps, of } = ended? {
        let what = format!("stopped after {steps} of {of} batches: the same command with --resume goes on");
        return Err(Error::Cancelled).context(what);
    }

    let measures: Vec<&dyn Measure> = data.iter().map(|set| set as &dyn Measure).collect();
    let table = rows(&fingerprint, log.lines(), &work.kept(), &measures)?;
    let files = write_all(&args.out, &table)?;
    let log = log.close()?;
    if json_sink.takes_stdout() {
        print(&json(&table)?)?;
    } else {
        print(&markdown(&table))?;
        json_sink.write(&Table::from(table))?;
    }
    say(&format!("{} files in {}, every batch in {}", files.len(), args.out.display(), log.display()));
    Ok(())
}

/// What is asked for: the file's description, and over it what the command line says.
fn spec(args: &TableArgs) -> Result<Spec> {
    fn set<T: Clone>(slot: &mut T, given: &Option<T>) {
        if let Some(given) = given {
            *slot = given.clone();
        }
    }
    let mut spec = match &args.spec {
        Some(path) => Spec::read(path)?,
        None => Spec::default(),
    };
    if let Some(methods) = &args.methods {
        spec.methods = methods.iter().map(|&name| MethodSpec::from(Method::from(name))).collect();
    }
    set(&mut spec.ratios, &args.ratios);
    set(&mut spec.tuned, &args.tuned);
    set(&mut spec.data, &args.data);
    set(&mut spec.tasks, &args.task);
    set(&mut spec.seq_len, &args.seq_len);
    set(&mut spec.batch, &args.batch);
    set(&mut spec.batches, &args.batches);
    set(&mut spec.rounds, &args.rounds);
    set(&mut spec.seed, &args.seed);
    spec.max_chars = args.max_chars.or(spec.max_chars);
    spec.limit = args.limit.or(spec.limit);
    if args.knowledge.calibration.is_some() {
        spec.calibration.clone_from(&args.knowledge.calibration);
        spec.calibration_samples = args.knowledge.calibration_samples;
    }
    spec.validate()?;
    Ok(spec)
}

/// Reads and cuts all data.
fn data_sets(spec: &Spec, opened: &Opened) -> Result<Vec<DataSet>> {
    let mut sets: Vec<DataSet> = Vec::new();
    for (name, path) in spec.texts() {
        let data = TextData::read(&data_file(&path)?, spec.max_chars)?;
        let wanted = spec.batch.saturating_mul(spec.batches);
        let chunks = data.chunks(&opened.tokenizer, spec.seq_len, wanted)?;
        if chunks.ids.len() < wanted {
            let found = chunks.ids.len();
            note(&format!("`{name}` is enough for {found} of the {wanted} chunks of {}: those are run", spec.seq_len));
        }
        sets.push(DataSet::text(&name, &data, &chunks, spec.batch));
    }
    for TaskSpec { name, data } in &spec.tasks {
        let data = TaskData::read(name.parse()?, &data_file(data)?, spec.limit, &FewShot::default())?;
        let questions = Questions::new(&data, &opened.tokenizer, opened.files.config.max_position_embeddings)?;
        if questions.truncated > 0 {
            note(&format!("{} answers of `{name}` lose the beginning of their context", questions.truncated));
        }
        sets.push(DataSet::task(&data, questions, spec.batch, opened.tokenizer.wants_bos()));
    }
    let twice = |set: &&DataSet| sets.iter().filter(|other| other.record.data == set.record.data).count() > 1;
    match sets.iter().find(twice).map(|set| &set.record.data) {
        Some(name) => Err(Error::Setting(format!("two data sets are called `{name}`: name one with NAME=FILE")).into()),
        None => Ok(sets),
    }
}

/// What methods build on, as far as it goes without a device. A calibration by position is made as long as the longest
/// sample of all data.
fn prepare(
    args: &TableArgs,
    spec: &Spec,
    (opened, sha256): (&Opened, &str),
    (arms, data): (&[Arm], &[DataSet]),
) -> Result<Prepared> {
    let knowledge =
        KnowledgeOptions { calibration: spec.calibration.clone(), calibration_samples: spec.calibration_samples };
    let longest = data.iter().map(|set| set.largest().1).max().unwrap_or(spec.seq_len);
    let options = PruneOptions { method: None, ratio: None, masks_in: None, prune: None, probe: args.probe.clone() };
    // Units of files are opened already.
    let prune: Vec<_> = arms.iter().filter(|arm| arm.tuned.is_none()).map(|arm| &arm.prune).collect();
    if knowledge.calibration.is_none() {
        if let Some(arm) = arms.iter().find(|arm| arm.prune.needs_calibration()) {
            let what = format!("`{}` needs calibrated statistics: give --calibration FILE", arm.series);
            return Err(Error::Setting(what).into());
        }
        if arms.iter().any(|arm| arm.prune.method == Method::Pp) {
            note("no --calibration: Probe Pruning starts without history, which then follows the batches");
        }
    }
    knowledge.prepare(opened, sha256, (&options, &prune), (spec.batch, longest))
}

/// Everything that the numbers depend on.
fn fingerprint(
    spec: &Spec,
    model: ModelRecord,
    (arms, data): (&[Arm], &[DataSet]),
    (prepared, opened, loaded): (&Prepared, &Opened, &Loaded),
) -> Result<Fingerprint> {
    let calibration = prepared.record(opened)?;
    let protocol = Protocol {
        model,
        seq_len: spec.seq_len,
        batch: spec.batch,
        batches_asked: spec.batches,
        rounds: spec.rounds,
        seed: spec.seed,
        calibration,
        device: loaded.record(),
        version: env!("CARGO_PKG_VERSION").to_string(),
    };
    let data = data.iter().map(|set| set.record.clone()).collect();
    Ok(Fingerprint { protocol, data, arms: arms.to_vec() })
}

/// Draws progress, and hears Ctrl-C.
struct Bar {
    bar: ProgressBar,
    work: interrupt::Work,
    arms: Vec<String>,
    data: Vec<String>,
}

impl Bar {
    fn new(fingerprint: &Fingerprint, total: usize, done: usize) -> Bar {
        let bar = bar("measuring", total as u64, Unit::Steps);
        bar.set_position(done as u64);
        // What an earlier process did says nothing of the time that is left.
        bar.reset_eta();
        Bar {
            bar,
            work: interrupt::Work::start(),
            arms: fingerprint.arms.iter().map(|arm| arm.name.clone()).collect(),
            data: fingerprint.data.iter().map(|data| data.data.clone()).collect(),
        }
    }
}

impl Watch for Bar {
    fn progress(&mut self, at: Progress) {
        let Progress { done, total, arm, step, activity } = at;
        let (arm, data) = (&self.arms[arm], &self.data[step.data]);
        let what = match activity {
            Activity::WarmUp => "first of",
            Activity::Again => "again:",
            Activity::Batch => "measuring",
        };
        self.bar.set_position(done as u64);
        self.bar.set_message(format!("{what} {arm} on {data}"));
        tracing::info!(arm, data, ?activity, round = step.round, batch = step.batch, done, total, "progress");
    }

    fn asked_to_stop(&self) -> bool {
        self.work.asked_to_stop()
    }
}

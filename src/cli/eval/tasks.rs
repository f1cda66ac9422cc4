//! `secateur eval tasks`: questions with given answers.

use super::remark;
use crate::cli::answer::removed;
use crate::cli::knowledge::{KnowledgeOptions, Known};
use crate::cli::load::{Loaded, Opened, data_file};
use crate::cli::options::{ModelOptions, PruneOptions, positive};
use crate::cli::output::{JsonOption, check_writable, note, print, write_whole};
use crate::cli::progress::{Unit, bar};
use anyhow::Result;
use clap::Args;
use secateur::Error;
use secateur::config::Method;
use secateur::engine::check_rows;
use secateur::eval::report::ModelRecord;
use secateur::eval::tasks::{
    self, Accuracy, Circumstances, FewShot, PredictionLine, Questions, TaskData, TaskName, TaskOptions, TaskReport,
    TaskRun,
};
use secateur::prune::Flops;
use std::path::PathBuf;
use std::str::FromStr;

/// Arguments of `secateur eval tasks`.
#[derive(Debug, Args)]
pub struct TasksArgs {
    /// What to ask, one or several: boolq, piqa, hellaswag, winogrande, arc-easy, arc-challenge, openbookqa
    #[arg(long, value_name = "NAME", value_delimiter = ',', required = true)]
    task: Vec<TaskName>,
    /// The questions, as the Hugging Face data sets have them (.jsonl, .json or .parquet, also with .gz); of several
    /// tasks, NAME=FILE once for each. A task without a file has the data set of its name, which `eval pull` gets
    #[arg(long, value_name = "[NAME=]FILE")]
    data: Vec<OfTask>,
    /// Ask only the first N of each file
    #[arg(long, value_name = "N", value_parser = positive)]
    limit: Option<usize>,
    /// Sequences of a batch
    #[arg(long, value_name = "B", default_value_t = 20, value_parser = positive)]
    batch: usize,
    /// Solved examples before every question
    #[arg(long, value_name = "K", default_value_t = 0)]
    few_shot: usize,
    /// Where the examples are drawn from [default: the other rows of --data]
    #[arg(long, value_name = "[NAME=]FILE")]
    few_shot_data: Vec<OfTask>,
    /// Draws the examples; nothing else here is drawn at random
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write how every row was answered to FILE, as JSON lines
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    prune: PruneOptions,
    #[command(flatten)]
    knowledge: KnowledgeOptions,
    #[command(flatten)]
    json: JsonOption,
}

/// A file, and the task that it is for where that is said.
#[derive(Debug, Clone)]
struct OfTask {
    task: Option<TaskName>,
    file: PathBuf,
}

impl FromStr for OfTask {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<OfTask, Self::Err> {
        // A file's own name may hold a `=`: only what names a task is one.
        let named = text.split_once('=').and_then(|(name, file)| Some((name.parse().ok()?, file)));
        Ok(match named {
            Some((task, file)) => OfTask { task: Some(task), file: file.into() },
            None => OfTask { task: None, file: text.into() },
        })
    }
}

/// Questions, ready to be asked.
struct Asked {
    data: TaskData,
    questions: Questions,
}

/// Asks.
pub fn run(args: &TasksArgs) -> Result<()> {
    let options = TaskOptions { batch: args.batch, prune: args.prune.batch_config(Method::Dense)? };
    let json = args.json.open()?;
    if let Some(path) = &args.predictions {
        check_writable(path)?;
    }
    let files = files(args)?;
    let opened = Opened::open(&args.model)?;
    let context = opened.files.config.max_position_embeddings;
    let asked: Vec<Asked> = files
        .into_iter()
        .map(|(task, file, few_shot)| ask(args, &opened, (task, file, &few_shot)))
        .collect::<Result<_>>()?;
    let longest = asked.iter().map(|asked| asked.questions.longest()).max().unwrap_or(0);
    check_rows(args.batch, longest)?;
    let model = opened.record()?;
    let sha256 = model.model_sha256.clone();
    let prepared = args.knowledge.prepare(&opened, &sha256, (&args.prune, &[&options.prune]), (args.batch, longest))?;
    remark(&args.knowledge, &options.prune);
    let loaded = opened.load(&args.model)?;
    let known = prepared.finish(&opened, &loaded.engine)?;
    // What the longest batch of all lacks is found before the first task has run.
    loaded.engine.chooser(&options.prune, &known.knowledge, longest)?.prepare(args.batch, longest)?;

    let (mut reports, mut lines) = (Vec::new(), String::new());
    for Asked { data, questions } in &asked {
        let bar = bar(data.task.name(), 0, Unit::Steps);
        let run = tasks::run(&loaded.engine, &options, questions, &known.knowledge, &mut |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            tracing::info!(task = data.task.name(), done, total, "progress");
            Ok(())
        });
        bar.finish_and_clear();
        let run = run?;
        for (row, prediction) in run.outcome.predictions.iter().enumerate() {
            lines.push_str(&serde_json::to_string(&PredictionLine::new(data.task, row, prediction))?);
            lines.push('\n');
        }
        let about = about(args, (&opened, context), &loaded, &known, model.clone());
        let report = TaskReport::new(&options, &run, (data, questions), about);
        if !json.takes_stdout() {
            print(&line(&report, &run))?;
        }
        reports.push(report);
    }
    if let Some(path) = &args.predictions {
        write_whole(path, &lines)?;
    }
    if !json.takes_stdout() {
        print(&summary(&reports, &loaded))?;
    }
    json.write(&reports)
}

/// The file of every task, and its examples.
fn files(args: &TasksArgs) -> Result<Vec<(TaskName, PathBuf, FewShot)>> {
    for (option, given) in [("--data", &args.data), ("--few-shot-data", &args.few_shot_data)] {
        check_given(option, given, &args.task)?;
    }
    if args.few_shot == 0 && !args.few_shot_data.is_empty() {
        note("no --few-shot: --few-shot-data is not used");
    }
    let mut files: Vec<(TaskName, PathBuf, FewShot)> = Vec::new();
    for &task in &args.task {
        if files.iter().any(|(other, ..)| *other == task) {
            return Err(Error::Setting(format!("--task names {task} twice")).into());
        }
        let of =
            |given: &[OfTask]| given.iter().find(|of| of.task.is_none_or(|of| of == task)).map(|of| of.file.clone());
        let file = data_file(&of(&args.data).unwrap_or_else(|| task.name().into()))?;
        let examples = of(&args.few_shot_data).map(|file| data_file(&file)).transpose()?;
        let few_shot = FewShot { count: args.few_shot, data: examples, seed: args.seed };
        files.push((task, file, few_shot));
    }
    Ok(files)
}

/// Refuses files that no task, or more than one, would read.
fn check_given(option: &str, given: &[OfTask], tasks: &[TaskName]) -> Result<(), Error> {
    if tasks.len() > 1
        && let Some(of) = given.iter().find(|of| of.task.is_none())
    {
        let file = of.file.display();
        return Err(Error::Setting(format!("{option} {file}: of several tasks, say which: {option} NAME={file}")));
    }
    for (index, of) in given.iter().enumerate() {
        if let Some(task) = of.task.filter(|task| !tasks.contains(task)) {
            return Err(Error::Setting(format!("{option} names {task}, which --task does not")));
        }
        if given.iter().take(index).any(|other| other.task == of.task || tasks.len() == 1) {
            let file = of.file.display();
            return Err(Error::Setting(format!("{option} {file}: the task has a file already")));
        }
    }
    Ok(())
}

fn ask(args: &TasksArgs, opened: &Opened, (task, file, few_shot): (TaskName, PathBuf, &FewShot)) -> Result<Asked> {
    let data = TaskData::read(task, &file, args.limit, few_shot)?;
    let questions = Questions::new(&data, &opened.tokenizer, opened.files.config.max_position_embeddings)?;
    if let Some(limit) = args.limit.filter(|limit| questions.len() < *limit) {
        note(&format!("{task}: the file has {} of the {limit} rows: those are asked", questions.len()));
    }
    if questions.truncated > 0 {
        let (cut, all) = (questions.truncated, questions.answers());
        note(&format!("{task}: {cut} of {all} contexts are longer than the model's and lose their beginning"));
    }
    Ok(Asked { data, questions })
}

fn about(
    args: &TasksArgs,
    (opened, context): (&Opened, usize),
    loaded: &Loaded,
    known: &Known,
    model: ModelRecord,
) -> Circumstances {
    Circumstances {
        model,
        device: loaded.record(),
        calibration: known.record.clone(),
        limit: args.limit,
        context,
        bos: opened.tokenizer.wants_bos(),
        seconds_load: loaded.seconds,
        seconds_calibration: known.seconds,
    }
}

/// A task in one line.
fn line(report: &TaskReport, run: &TaskRun) -> String {
    let shown = |accuracy: Accuracy| {
        let error = accuracy.stderr.map_or(String::new(), |stderr| format!(" ± {:.1}", 100.0 * stderr));
        format!("{:.1} %{error}", 100.0 * accuracy.value)
    };
    let norm = run.outcome.acc_norm.map_or("-".into(), shown);
    format!(
        "{:<14} acc {:<14} acc_norm {norm:<14} {} rows, {:.1} tokens/s\n",
        report.task.name(),
        shown(run.outcome.acc),
        report.rows,
        report.tokens_per_second
    )
}

/// What holds for all tasks, and what the columns mean.
fn summary(reports: &[TaskReport], loaded: &Loaded) -> String {
    let Some((first, (acc, norm))) = reports.first().zip(tasks::means(reports)) else { return String::new() };
    let mut text = String::new();
    if reports.len() > 1 {
        let tasks = reports.len();
        text.push_str(&format!(
            "mean of {tasks}      acc {:.1} %; with acc_norm where a task has one {:.1} %\n",
            100.0 * acc,
            100.0 * norm
        ));
    }
    text.push_str(&format!("method         {}", first.method.name()));
    if first.method != Method::Dense {
        let sum = |of: fn(&TaskReport) -> f64| reports.iter().map(of).sum::<f64>();
        let probe = sum(|report| report.flops_probe);
        let flops = Flops { pass: sum(|report| report.flops) - probe, dense: sum(|report| report.flops_dense), probe };
        text.push_str(&format!(", ratio {}, FLOPs of the layers: {}", first.ratio, removed(flops)));
    }
    text.push_str(&format!(
        "\nspeed          {:.1} s (load {:.1} s, calibration {:.1} s) on {}\n",
        reports.iter().map(|report| report.seconds).sum::<f64>(),
        first.seconds_load,
        first.seconds_calibration,
        loaded.engine.gpu().info().name
    ));
    text.push_str("acc            the right answer has the largest log likelihood (± standard error)\n");
    text.push_str("acc_norm       the right answer has the largest log likelihood divided by its characters\n");
    text
}

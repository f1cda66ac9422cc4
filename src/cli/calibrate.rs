//! `secateur calibrate`: what a text says about every channel of a model.

use super::interrupt::{self, Work};
use super::knowledge::samples_of;
use super::load::{Opened, data_file};
use super::options::{HistoryName, ModelOptions, positive};
use super::output::{bytes, check_writable, note, print};
use super::progress::{Unit, bar};
use anyhow::Result;
use clap::Args;
use secateur::Error;
use secateur::config::HistoryKind;
use secateur::eval::calibrate::{self, CalibrateOptions, Step};
use secateur::eval::data::TextData;
use secateur::prune::{Calibration, Recipe};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often what is known is put aside.
const CHECKPOINT: Duration = Duration::from_secs(60);

/// Arguments of `secateur calibrate`.
#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// The text: any UTF-8 file, or .jsonl with a field `text` (rows are joined by a blank line)
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Samples: chunks of the text
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = positive)]
    samples: usize,
    /// Tokens of a sample
    #[arg(long, value_name = "T", default_value_t = 512)]
    seq_len: usize,
    /// Samples of a pass
    #[arg(long, value_name = "B", default_value_t = 8, value_parser = positive)]
    batch: usize,
    /// Draw the samples from the whole text by this seed [default: take the first]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Which positions have statistics of their own
    #[arg(long, value_enum, default_value_t = HistoryName::Exact)]
    positions: HistoryName,
    /// Where to; conversations find the calibration of their model by themselves where this is left out
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Start over instead of going on where an earlier run was interrupted
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    model: ModelOptions,
}

/// Measures.
pub fn run(args: &CalibrateArgs) -> Result<()> {
    let options = CalibrateOptions {
        samples: args.samples,
        seq_len: args.seq_len,
        batch: args.batch.min(args.samples),
        seed: args.seed,
        positions: match args.positions {
            HistoryName::Exact => HistoryKind::Exact,
            HistoryName::Buckets => HistoryKind::Buckets,
            HistoryName::Collapsed => HistoryKind::Collapsed,
            HistoryName::Off => {
                return Err(Error::Setting("--positions off would measure nothing".into()).into());
            }
        },
    };
    let opened = Opened::open(&args.model)?;
    let data = TextData::read(&data_file(&args.data)?, None)?;
    let samples = samples_of(&data, &opened, &options)?;
    let sha256 = opened.files.sha256()?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => default_path(&sha256)?,
    };
    check_writable(&out)?;
    let recipe = calibrate::recipe((&opened.name, &sha256), &data, &options, samples.len());
    let partial = partial_path(&out);
    let before = if args.restart { None } else { unfinished(&partial, &recipe)? };
    if let Some(before) = &before {
        note(&format!("going on behind {} of {} samples", before.recipe().measured, samples.len()));
    }

    interrupt::install()?;
    let loaded = opened.load(&args.model)?;
    let (work, bar) = (Work::start(), bar("calibrating", samples.len() as u64, Unit::Steps));
    let mut saved = Instant::now();
    let mut heard = |step: &Step<'_>| -> secateur::Result<()> {
        bar.set_position(step.done as u64);
        let stop = work.asked_to_stop();
        if step.done < step.total && (stop || saved.elapsed() >= CHECKPOINT) {
            step.read()?.save(&partial)?;
            saved = Instant::now();
        }
        if stop { Err(Error::Cancelled) } else { Ok(()) }
    };
    let measured = calibrate::measure(&loaded.engine, recipe, (&samples, options.batch), before.as_ref(), &mut heard);
    bar.finish_and_clear();
    if matches!(measured, Err(Error::Cancelled)) {
        note(&format!("what is measured lies in {}: the same command goes on there", partial.display()));
    }
    let measured = measured?;
    measured.save(&out)?;
    let _ = fs::remove_file(&partial);
    let Recipe { samples, seq_len, .. } = measured.recipe();
    print(&format!("{}\n", out.display()))?;
    note(&format!("{samples} samples of {seq_len} tokens, {}", bytes(measured.bytes())));
    Ok(())
}

/// Where conversations look for the calibration of a model.
pub fn default_path(sha256: &str) -> Result<PathBuf> {
    let path = Calibration::default_path(sha256)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    Ok(path)
}

/// Where a measurement that is not finished lies.
fn partial_path(out: &Path) -> PathBuf {
    let mut name = OsString::from(out.as_os_str());
    name.push(".partial");
    PathBuf::from(name)
}

/// What an earlier run of the same recipe has measured.
fn unfinished(partial: &Path, recipe: &Recipe) -> Result<Option<Calibration>> {
    if !partial.exists() {
        return Ok(None);
    }
    let before = Calibration::open_partial(partial)?;
    let wanted = Recipe { format: before.recipe().format, version: before.recipe().version.clone(), ..recipe.clone() };
    match before.recipe().same(&wanted) {
        true => Ok(Some(before)),
        false => {
            let what = format!(
                "{} holds an unfinished measurement of other data, samples or another model: finish that one, choose another --out, or add --restart",
                partial.display()
            );
            Err(Error::Setting(what).into())
        }
    }
}

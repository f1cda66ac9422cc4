//! `secateur tune merge`: a model with an adapter added to its weights, as a Hugging Face folder. Needs no GPU.

use crate::cli::interrupt::{self, Work};
use crate::cli::load::adapted;
use crate::cli::output::{bytes, print, say};
use crate::cli::progress::{Unit, bar};
use anyhow::Result;
use clap::Args;
use secateur::Error;
use secateur::model::convert::{self, FolderExport, check_folder};
use secateur::model::{ModelFiles, pull};
use secateur::text;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `secateur tune merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// A GGUF file, a Hugging Face folder, or the name of a pulled model
    #[arg(long, short, value_name = "MODEL", env = "SECATEUR_MODEL", default_value = "smollm2-135m")]
    model: String,
    /// The LoRA adapter's folder, in the form of Hugging Face's PEFT
    #[arg(long, value_name = "FOLDER")]
    lora: PathBuf,
    /// The folder to write, which is not there yet
    #[arg(long, short, value_name = "FOLDER")]
    out: PathBuf,
}

/// Merges.
pub fn run(args: &MergeArgs) -> Result<()> {
    check_folder(&args.out)?;
    let files = ModelFiles::open(&pull::resolve(&args.model, &pull::models_dir()?)?)?;
    let text = if files.is_gguf() { text::hub_files(&files.text)? } else { Vec::new() };
    let files = adapted(files, Some(&args.lora))?;
    let export = FolderExport::new(&files, text)?;
    let (total, target) = (export.bytes(), args.out.display());
    let room = convert::room(&args.out).map_or(String::new(), |room| format!("; {} are free there", bytes(room)));
    say(&format!("{} with {} to {target}: {}{room}", args.model, args.lora.display(), bytes(total)));

    interrupt::install()?;
    let (work, bar, started) = (Work::start(), bar("merging", total, Unit::Bytes), Instant::now());
    let written = export.write(&args.out, &mut |done, _| {
        bar.set_position(done);
        if work.asked_to_stop() { Err(Error::Cancelled) } else { Ok(()) }
    });
    bar.finish_and_clear();
    written?;
    Ok(print(&format!("{target}: {} in {:.1} s\n", bytes(total), started.elapsed().as_secs_f64()))?)
}

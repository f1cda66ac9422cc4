//! `secateur pull`: a model of the catalogue onto this machine.

use super::output::{bytes, print};
use super::progress::{Unit, bar};
use anyhow::Result;
use clap::Args;
use secateur::model::catalogue::{Catalogue, Entry};
use secateur::model::pull::{self, Progress, PullOptions};
use std::path::PathBuf;

/// Arguments of `secateur pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Name in the catalogue; the default model if left out
    name: Option<String>,
    /// List the catalogue instead
    #[arg(long, conflicts_with = "name")]
    list: bool,
}

/// Pulls a model, or lists those there are.
pub fn run(args: &PullArgs) -> Result<()> {
    let catalogue = Catalogue::builtin()?;
    if args.list {
        for entry in &catalogue.models {
            let Entry { name, title, licence, .. } = entry;
            let mark = if *name == catalogue.default { " (default)" } else { "" };
            print(&format!("{name}{mark}: {title}, {}, {licence}\n", bytes(entry.bytes)))?;
        }
        return Ok(());
    }
    let entry = catalogue.get(args.name.as_deref().unwrap_or(&catalogue.default))?;
    let path = fetch(entry)?;
    Ok(print(&format!("{}\n", path.display()))?)
}

/// Pulls one model behind a progress bar; returns its path.
pub fn fetch(entry: &Entry) -> Result<PathBuf> {
    let dir = pull::models_dir()?;
    watched(&entry.name, entry.bytes, |report| pull::pull(entry, &mut PullOptions::new(dir, report)))
}

/// What a pull reports to.
pub type Report<'a> = dyn FnMut(Progress) -> secateur::Result<()> + 'a;

/// A pull behind a progress bar.
pub fn watched(
    name: &str,
    bytes: u64,
    pull: impl FnOnce(&mut Report<'_>) -> secateur::Result<PathBuf>,
) -> Result<PathBuf> {
    let bar = bar(name, bytes, Unit::Bytes);
    let pulled = pull(&mut |at: Progress| {
        bar.set_message(format!("{name}: {}", at.step));
        bar.set_length(at.total);
        bar.set_position(at.done);
        Ok(())
    });
    bar.finish_and_clear();
    Ok(pulled?)
}

//! `secateur eval pull`: data sets onto this machine.

use crate::cli::output::print;
use crate::cli::pull::{Report, watched};
use anyhow::Result;
use clap::Args;
use secateur::model::datasets::DataSets;
use secateur::model::pull::{self, PullOptions};

/// Arguments of `secateur eval pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Names in the list
    #[arg(required_unless_present = "list", value_name = "NAME")]
    names: Vec<String>,
    /// List the data sets instead
    #[arg(long, conflicts_with = "names")]
    list: bool,
}

/// Pulls data sets, or lists those there are.
pub fn run(args: &PullArgs) -> Result<()> {
    let list = DataSets::builtin()?;
    if args.list {
        for set in &list.sets {
            print(&format!(
                "{:<14} {}, {}; licence: {}; {} at {}\n",
                set.name, set.title, set.split, set.licence, set.hub.repo, set.hub.revision
            ))?;
        }
        return Ok(());
    }
    let sets = args.names.iter().map(|name| list.get(name)).collect::<secateur::Result<Vec<_>>>()?;
    let dir = pull::data_dir()?;
    for set in sets {
        let pull = |report: &mut Report<'_>| pull::pull_data(set, &mut PullOptions::new(dir.clone(), report));
        let path = watched(&set.name, 0, pull)?;
        print(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

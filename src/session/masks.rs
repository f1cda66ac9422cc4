//! Masks of a headless evaluation, for the same viewer.

use crate::error::Result;
use crate::protocol::{Cause, Heat, LayerHeat, MasksFile, UnitHeat};
use crate::prune::masks_file::{self, Choice, LayerLine, MasksHeader};
use std::path::Path;
use std::sync::Arc;

/// Reads a masks file.
pub(super) fn open(path: &Path) -> Result<MasksFile> {
    let (header, lines) = masks_file::read(path)?;
    let batches = lines.into_iter().map(|lines| Arc::new(heat(&header, lines))).collect();
    let MasksHeader { prune, batch, seq_len, .. } = &header;
    let title = format!("{} at {}, batches of {batch} × {seq_len} tokens", prune.method.name(), prune.ratio);
    Ok(MasksFile { path: path.to_path_buf(), title, batches })
}

fn heat(header: &MasksHeader, lines: Vec<LayerLine>) -> Heat {
    let number = lines.first().map_or(0, |line| line.batch);
    let units = |choice: Option<Choice>| {
        choice.map(|choice| UnitHeat {
            kept: choice.kept,
            // Every token of the batch is written as none left out.
            probed: if choice.probe_tokens.len() < header.seq_len { choice.probe_tokens } else { Vec::new() },
            ..UnitHeat::default()
        })
    };
    let layer = |line: LayerLine| LayerHeat { heads: units(line.heads), channels: units(line.mlp) };
    Heat {
        id: number as u64,
        index: 0,
        cause: Cause::Prompt,
        at: header.seq_len,
        method: header.prune.method,
        ratio: header.prune.ratio,
        heads: header.heads,
        channels: header.channels,
        layers: lines.into_iter().map(layer).collect(),
    }
}

//! The kept units of a run on disk: JSON lines, a header and then one line for every batch and layer.
//!
//! Invariant: a batch is flushed when it is written, so that a run that is cut short leaves whole lines.

use crate::config::PruneConfig;
use crate::error::{Error, Result};
use crate::prune::ProbeTrace;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// The first line: what the masks belong to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MasksHeader {
    /// Version of this layout.
    pub format: u32,
    /// SHA-256 of the model.
    pub model_sha256: String,
    /// SHA-256 of the data file.
    pub data_sha256: String,
    /// Layers of the model.
    pub layers: usize,
    /// Query heads of a layer.
    pub heads: usize,
    /// MLP channels of a layer.
    pub channels: usize,
    /// Chunks of a batch.
    pub batch: usize,
    /// Tokens of a chunk.
    pub seq_len: usize,
    /// All settings of pruning.
    pub prune: PruneConfig,
    /// Version of the program.
    pub version: String,
}

/// Every other line: one layer of one batch. A half that keeps all of its units is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerLine {
    /// Index of the batch.
    pub batch: usize,
    /// Index of the layer.
    pub layer: usize,
    /// Query heads.
    pub heads: Option<Choice>,
    /// MLP channels.
    pub mlp: Option<Choice>,
}

/// What a probe decided, all lists ascending.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Kept units.
    pub kept: Vec<u32>,
    /// Probed positions.
    pub probe_tokens: Vec<u32>,
    /// Probed samples of the batch.
    pub probe_samples: Vec<u32>,
}

/// Current version of the layout.
pub const FORMAT: u32 = 1;

/// Writes the lines.
pub struct MasksWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl MasksWriter {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(path: &Path) -> Result<MasksWriter> {
        let file = BufWriter::new(File::create(path).map_err(Error::io("create", path))?);
        Ok(MasksWriter { path: path.to_path_buf(), file })
    }

    /// Writes the first line.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn header(&mut self, header: &MasksHeader) -> Result<()> {
        self.line(header)?;
        self.flush()
    }

    /// Writes a batch.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn batch(&mut self, batch: usize, layers: &[[Option<ProbeTrace>; 2]]) -> Result<()> {
        for (layer, [heads, mlp]) in layers.iter().enumerate() {
            let choice = |trace: &Option<ProbeTrace>| {
                trace.as_ref().map(|trace| Choice {
                    kept: trace.kept.clone(),
                    probe_tokens: trace.tokens.clone(),
                    probe_samples: trace.samples.clone(),
                })
            };
            self.line(&LayerLine { batch, layer, heads: choice(heads), mlp: choice(mlp) })?;
        }
        self.flush()
    }

    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.file, value)
            .map_err(std::io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"))
            .map_err(Error::io("write", &self.path))
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(Error::io("write", &self.path))
    }
}

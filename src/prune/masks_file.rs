//! The kept units of a run on disk: JSON lines, a header and then one line for every batch and layer.
//!
//! Invariant: a batch is flushed when it is written, so that a run that is cut short leaves whole lines.

use super::ProbeTrace;
use crate::config::PruneConfig;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
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

/// Longest line that is read, in bytes: some hundred times a layer of the largest models.
const LONGEST_LINE: u64 = 1 << 24;

/// Reads a file that [`MasksWriter`] wrote. The last batch may be incomplete where its run was cut short; it is left out.
///
/// # Errors
/// [`Error::Io`], and [`Error::BadFile`] with the number of the line that is wrong.
pub fn read(path: &Path) -> Result<(MasksHeader, Vec<Vec<LayerLine>>)> {
    let mut lines =
        Lines { path, input: BufReader::new(File::open(path).map_err(Error::io("open", path))?), number: 0 };
    let header: MasksHeader = match lines.next()? {
        Some(header) => header,
        None => {
            return Err(Error::bad_file(
                path,
                "the file is empty: it was to hold masks, as `eval --masks` writes them",
            ));
        }
    };
    if header.format != FORMAT {
        let found = header.format;
        return Err(Error::bad_file(
            path,
            format!("it has format {found}, this version reads {FORMAT}: update Secateur"),
        ));
    }
    let mut batches: Vec<Vec<LayerLine>> = Vec::new();
    while let Some(line) = lines.next::<LayerLine>()? {
        lines.check(&header, &line, batches.last())?;
        match batches.last_mut() {
            Some(batch) if line.layer > 0 => batch.push(line),
            _ => batches.push(vec![line]),
        }
    }
    batches.pop_if(|last| last.len() < header.layers);
    Ok((header, batches))
}

struct Lines<'p> {
    path: &'p Path,
    input: BufReader<File>,
    number: usize,
}

impl Lines<'_> {
    fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let mut text = String::new();
        let read = (&mut self.input).take(LONGEST_LINE).read_line(&mut text).map_err(Error::io("read", self.path))?;
        self.number += 1;
        match serde_json::from_str(&text) {
            _ if read == 0 => Ok(None),
            Ok(value) => Ok(Some(value)),
            // A run that was killed may leave half a line, and nothing behind it.
            Err(_) if self.number > 1 && !text.ends_with('\n') => Ok(None),
            Err(error) => Err(self.bad(&format!("no masks as `eval --masks` writes them: {error}"))),
        }
    }

    /// Layers come in order, and units exist.
    fn check(&self, header: &MasksHeader, line: &LayerLine, last: Option<&Vec<LayerLine>>) -> Result<()> {
        let expected = last.map_or(0, |batch| batch.len() % header.layers.max(1));
        if line.layer != expected || line.layer >= header.layers {
            return Err(self.bad(&format!("layer {} where layer {expected} of {} belongs", line.layer, header.layers)));
        }
        for (choice, total, what) in [(&line.heads, header.heads, "head"), (&line.mlp, header.channels, "channel")] {
            let Some(choice) = choice else { continue };
            let ascending = choice.kept.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascending || choice.kept.last().is_some_and(|&unit| unit as usize >= total) {
                return Err(self.bad(&format!("kept {what}s must ascend and lie below {total}")));
            }
        }
        Ok(())
    }

    fn bad(&self, what: &str) -> Error {
        Error::bad_file(self.path, format!("line {}: {what}", self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(kept: &[u32]) -> Option<Choice> {
        Some(Choice { kept: kept.to_vec(), probe_tokens: vec![0, 3], probe_samples: vec![0] })
    }

    /// Two batches of two layers.
    fn lines() -> Vec<String> {
        let prune = PruneConfig::default();
        let (model_sha256, data_sha256, version) = ("m".to_string(), "d".to_string(), "0".to_string());
        let (layers, heads, channels, batch, seq_len) = (2, 4, 8, 1, 5);
        let format = FORMAT;
        let header =
            MasksHeader { format, model_sha256, data_sha256, layers, heads, channels, batch, seq_len, prune, version };
        let mut lines = vec![serde_json::to_string(&header).unwrap()];
        for batch in 0..2 {
            let dense = LayerLine { batch, layer: 0, heads: None, mlp: None };
            let pruned = LayerLine { batch, layer: 1, heads: choice(&[1, 3]), mlp: choice(&[0, 2, 7]) };
            lines.extend([dense, pruned].map(|line| serde_json::to_string(&line).unwrap()));
        }
        lines
    }

    fn read_text(text: &str) -> Result<(MasksHeader, Vec<Vec<LayerLine>>)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    #[test]
    fn batches_come_back_whole() {
        let (header, batches) = read_text(&(lines().join("\n") + "\n")).unwrap();
        assert_eq!((header.channels, batches.len()), (8, 2));
        assert_eq!(batches[1][1].mlp, choice(&[0, 2, 7]));
        assert_eq!(batches[1][0].heads, None);
    }

    #[test]
    fn a_run_that_was_cut_short_leaves_its_whole_batches() {
        let lines = lines();
        let mut text = lines[..4].join("\n") + "\n";
        assert_eq!(read_text(&text).unwrap().1.len(), 1, "a batch without its second layer");
        text.push_str(&lines[4][..lines[4].len() / 2]);
        assert_eq!(read_text(&text).unwrap().1.len(), 1, "half a line");
    }

    #[test]
    fn a_bad_line_is_named() {
        let good = lines();
        let with = |at: usize, line: &str| {
            let mut lines = good.clone();
            lines[at] = line.to_string();
            read_text(&(lines.join("\n") + "\n")).unwrap_err().to_string()
        };
        assert!(with(2, "{}").contains("line 3"), "a line without fields");
        assert!(with(2, &good[1]).contains("line 3: layer 0 where layer 1"), "a layer twice");
        assert!(with(2, &good[2].replace("[0,2,7]", "[0,2,8]")).contains("below 8"), "a channel that does not exist");
        assert!(with(2, &good[2].replace("[1,3]", "[3,1]")).contains("heads must ascend"));
        assert!(with(0, &good[0].replace("\"format\":1", "\"format\":2")).contains("update Secateur"));
        assert!(read_text("").unwrap_err().to_string().contains("empty"));
        assert!(read_text("hello\n").unwrap_err().to_string().contains("line 1"));
    }
}

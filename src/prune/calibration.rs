//! What dense runs over a text say about every channel: means, mean squares, fluctuation. Probe Pruning starts its history from
//! it, the static methods decide by it.
//!
//! On disk a calibration is a safetensors file. For every layer `l` and each of `o_proj` and `down_proj` it holds of their inputs
//! - `layers.l.NAME.mean` and `.fluctuation` `[width]`: FLAP's running statistics over all tokens;
//! - `layers.l.NAME.means` and `.mean_squares` `[rows, width]`: by position, by range of positions, or over all;
//!
//! and as its metadata a recipe. Invariants: a file names the model and the text it was measured on; under its own name it is
//! complete.

use super::Half;
use super::tensors::{Tensors, TensorsWriter};
use crate::config::{HistoryKind, ModelConfig, Statistic};
use crate::error::{Error, Result};
use crate::kernels::HistoryRows;
#[cfg(not(target_arch = "wasm32"))]
use crate::model::{ModelFiles, pull};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
#[cfg(not(target_arch = "wasm32"))]
use std::path::PathBuf;

/// Current version of the layout.
const FORMAT: u32 = 1;
/// Most ranges of positions: those of a context of 2^31 tokens.
const MOST_BUCKETS: usize = 32;

/// What a calibration was measured with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Version of the layout.
    pub format: u32,
    /// SHA-256 of the model.
    pub model_sha256: String,
    /// What the user called it.
    pub model: String,
    /// The text's file.
    pub data: String,
    /// SHA-256 of that file.
    pub data_sha256: String,
    /// Samples asked for.
    pub samples: usize,
    /// Tokens of each.
    pub seq_len: usize,
    /// Seed that drew the samples; `None` = the first of the text.
    pub seed: Option<u64>,
    /// Which positions share a row.
    pub positions: HistoryKind,
    /// Samples measured so far.
    pub measured: usize,
    /// Version of the program.
    pub version: String,
}

impl Recipe {
    /// Rows of the statistics by position.
    pub fn rows(&self) -> HistoryRows {
        rows_of(self.positions, self.seq_len)
    }

    /// Whether `other` measures the same, however far it is.
    pub fn same(&self, other: &Recipe) -> bool {
        *self == Recipe { measured: self.measured, ..other.clone() }
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = Path::new(&self.data).file_name().map_or(self.data.as_str().into(), |name| name.to_string_lossy());
        write!(f, "{data}, {} samples of {} tokens", self.samples, self.seq_len)
    }
}

/// The rows of a kind of history for samples of `seq_len` tokens.
pub fn rows_of(kind: HistoryKind, seq_len: usize) -> HistoryRows {
    match kind {
        HistoryKind::Exact => HistoryRows::Each(seq_len),
        HistoryKind::Buckets => HistoryRows::Buckets(HistoryRows::Buckets(MOST_BUCKETS).count(seq_len)),
        HistoryKind::Collapsed | HistoryKind::Off => HistoryRows::One,
    }
}

/// The statistics of one layer's half.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// `[width]`.
    pub mean: Vec<f32>,
    /// `[width]`.
    pub fluctuation: Vec<f32>,
    /// `[rows][width]`.
    pub means: Vec<f32>,
    /// `[rows][width]`.
    pub mean_squares: Vec<f32>,
}

/// Statistics and where they come from. Values stay in the file until they are asked for.
#[derive(Debug)]
pub struct Calibration {
    recipe: Recipe,
    tensors: Tensors,
}

impl Calibration {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::BadFile`] for a file that is none, is damaged, or whose measurement was never finished.
    pub fn open(path: &Path) -> Result<Calibration> {
        let calibration = Calibration::open_partial(path)?;
        let Recipe { measured, samples, .. } = calibration.recipe;
        if measured < samples {
            let what = format!("only {measured} of its {samples} samples are measured: run the same `calibrate` again");
            return Err(Error::bad_file(path, what));
        }
        Ok(calibration)
    }

    /// Where conversations look for the calibration of a model: a folder beside the models'.
    ///
    /// # Errors
    /// [`Error::Setting`] where the system has no folder for data.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn default_path(model_sha256: &str) -> Result<PathBuf> {
        let models = pull::models_dir()?;
        let folder = models.parent().unwrap_or(&models).join("calibrations");
        Ok(folder.join(format!("{model_sha256}.safetensors")))
    }

    /// The calibration that lies where conversations look for it, if there is one.
    ///
    /// # Errors
    /// As [`Calibration::open`] and [`Calibration::check_model`], and those of hashing the model.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn of_model(files: &ModelFiles) -> Result<Option<Calibration>> {
        // Large models take a while to hash: not before anything was ever calibrated.
        if !Calibration::default_path("")?.parent().is_some_and(|folder| folder.is_dir()) {
            return Ok(None);
        }
        let sha256 = files.sha256()?;
        let path = Calibration::default_path(&sha256)?;
        if !path.exists() {
            return Ok(None);
        }
        let calibration = Calibration::open(&path)?;
        calibration.check_model(&files.config, &sha256)?;
        Ok(Some(calibration))
    }

    /// The same, where a measurement that is not finished will do.
    ///
    /// # Errors
    /// As [`Calibration::open`].
    pub fn open_partial(path: &Path) -> Result<Calibration> {
        let tensors = Tensors::open(path)?;
        let recipe: Recipe = tensors.recipe("a calibration, as `secateur calibrate` writes it")?;
        if recipe.format != FORMAT {
            let found = recipe.format;
            let what = format!("it has format {found}, this version reads {FORMAT}: calibrate anew");
            return Err(Error::bad_file(path, what));
        }
        Ok(Calibration { recipe, tensors })
    }

    /// Puts measured statistics together, by layer and half; `recipe.format` and `version` are set here.
    ///
    /// # Errors
    /// [`Error::Internal`] if they cannot be laid out.
    pub fn new(mut recipe: Recipe, layers: &[[Measured; 2]], model: &ModelConfig) -> Result<Calibration> {
        (recipe.format, recipe.version) = (FORMAT, env!("CARGO_PKG_VERSION").to_string());
        let rows = recipe.rows().total();
        let mut writer = TensorsWriter::default();
        for (layer, halves) in layers.iter().enumerate() {
            for (half, measured) in Half::BOTH.into_iter().zip(halves) {
                let width = half.width(model);
                writer.floats(&name(layer, half, "mean"), &[width], &measured.mean);
                writer.floats(&name(layer, half, "fluctuation"), &[width], &measured.fluctuation);
                writer.floats(&name(layer, half, "means"), &[rows, width], &measured.means);
                writer.floats(&name(layer, half, "mean_squares"), &[rows, width], &measured.mean_squares);
            }
        }
        let tensors = writer.finish("calibration", &recipe)?;
        Ok(Calibration { recipe, tensors })
    }

    /// Writes it to a file, under another name first, so that no half of it is ever read as the whole.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        self.tensors.save(path)
    }

    /// What it was measured with.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.tensors.bytes()
    }

    /// Refuses the calibration of another model.
    ///
    /// # Errors
    /// [`Error::BadFile`] that names both, or the tensor that does not fit.
    pub fn check_model(&self, model: &ModelConfig, sha256: &str) -> Result<()> {
        if self.recipe.model_sha256 != sha256 {
            let Recipe { model, model_sha256, .. } = &self.recipe;
            let what = format!(
                "this calibration is of another model: `{model}`, SHA-256 {model_sha256}; this model's is {sha256}. Calibrate anew"
            );
            return Err(Error::bad_file(self.tensors.path(), what));
        }
        for layer in 0..model.num_hidden_layers {
            for half in Half::BOTH {
                let (width, rows) = (half.width(model), self.recipe.rows().total());
                self.tensors.check(&name(layer, half, "mean"), &[width])?;
                self.tensors.check(&name(layer, half, "fluctuation"), &[width])?;
                self.tensors.check(&name(layer, half, "means"), &[rows, width])?;
                self.tensors.check(&name(layer, half, "mean_squares"), &[rows, width])?;
            }
        }
        Ok(())
    }

    /// Everything of one layer's half.
    ///
    /// # Errors
    /// [`Error::BadFile`] for a tensor that is missing or not finite.
    pub fn measured(&self, layer: usize, half: Half) -> Result<Measured> {
        let floats = |what| self.tensors.floats(&name(layer, half, what));
        Ok(Measured {
            mean: floats("mean")?,
            fluctuation: floats("fluctuation")?,
            means: floats("means")?,
            mean_squares: floats("mean_squares")?,
        })
    }

    /// Mean of every channel, `[width]`.
    ///
    /// # Errors
    /// As [`Calibration::measured`].
    pub fn mean(&self, layer: usize, half: Half) -> Result<Vec<f32>> {
        self.tensors.floats(&name(layer, half, "mean"))
    }

    /// FLAP's fluctuation of every channel, `[width]`.
    ///
    /// # Errors
    /// As [`Calibration::measured`].
    pub fn fluctuation(&self, layer: usize, half: Half) -> Result<Vec<f32>> {
        self.tensors.floats(&name(layer, half, "fluctuation"))
    }

    /// The history that a run starts from, `[rows][width]`: mean squares, or mean squared distances from the mean.
    ///
    /// # Errors
    /// As [`Calibration::measured`]; [`Error::Setting`] for rows that are finer than what was measured.
    pub fn history(&self, layer: usize, half: Half, rows: HistoryRows, statistic: Statistic) -> Result<Vec<f32>> {
        let Measured { mean, means, mut mean_squares, .. } = self.measured(layer, half)?;
        if statistic == Statistic::Fluctuation {
            for (i, square) in mean_squares.iter_mut().enumerate() {
                let (centre, mean) = (f64::from(mean[i % mean.len()]), f64::from(means[i]));
                // mean((x - c)^2); never below zero but for rounding.
                *square = (f64::from(*square) - 2.0 * centre * mean + centre * centre).max(0.0) as f32;
            }
        }
        self.regroup(&mean_squares, mean.len(), rows)
    }

    /// Means over the positions of coarser rows.
    fn regroup(&self, values: &[f32], width: usize, rows: HistoryRows) -> Result<Vec<f32>> {
        let measured = self.recipe.rows();
        if rows == measured {
            return Ok(values.to_vec());
        }
        let coarser = match measured {
            HistoryRows::Each(_) => !matches!(rows, HistoryRows::Each(_)),
            HistoryRows::Buckets(_) => rows == HistoryRows::One,
            HistoryRows::One => false,
        };
        if !coarser {
            let path = self.tensors.path().display();
            return Err(Error::Setting(format!(
                "{path} was measured over {}, which is too coarse for this --history: choose another, or calibrate with --positions exact and --seq-len",
                match measured {
                    HistoryRows::Each(positions) => format!("{positions} positions"),
                    HistoryRows::Buckets(_) => "ranges of positions".into(),
                    HistoryRows::One => "all positions together".into(),
                }
            )));
        }
        let mut sums = vec![0.0f64; rows.total() * width];
        let mut counts = vec![0usize; rows.total()];
        for position in 0..self.recipe.seq_len {
            let (from, to) = (measured.row(position), rows.row(position));
            counts[to] += 1;
            let values = &values[from * width..][..width];
            sums[to * width..][..width].iter_mut().zip(values).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        Ok(sums.iter().enumerate().map(|(i, sum)| (sum / counts[i / width].max(1) as f64) as f32).collect())
    }
}

fn name(layer: usize, half: Half, what: &str) -> String {
    format!("layers.{layer}.{}.{what}", half.ranked_weight())
}

//! A model with an adapter: `W + scale * b a` in place of every matrix that has factors.

use super::{Adapter, Factors};
use crate::config::RopeLayout;
use crate::error::{Error, Result};
use crate::format::WeightFormat;
use crate::gpu::system_memory_available;
use crate::model::convert::{Permutation, known};
use crate::model::{LayerTensor, ModelFiles, TensorRole, TensorType, TensorView};

/// Elements that a thread works on between two that it hands over.
const AT_ONCE: usize = 1 << 20;

/// What is added to a matrix.
#[derive(Clone, Copy)]
struct Delta<'a> {
    factors: &'a Factors,
    rank: usize,
    scale: f32,
    /// Where the matrix has its rows in another order than the factors.
    permutation: Option<Permutation>,
}

impl Delta<'_> {
    /// Adds its rows from `first` on to `values`, rows of `cols`.
    fn add(&self, first: usize, values: &mut [f32], cols: usize) {
        let mut sums = vec![0.0f32; cols];
        for (row, values) in values.chunks_exact_mut(cols).enumerate() {
            let row = first + row;
            let row = self.permutation.map_or(row, |permutation| permutation.source(row));
            sums.fill(0.0);
            let b = &self.factors.b[row * self.rank..][..self.rank];
            for (&b, a) in b.iter().zip(self.factors.a.chunks_exact(cols)) {
                sums.iter_mut().zip(a).for_each(|(sum, a)| *sum += b * a);
            }
            values.iter_mut().zip(&sums).for_each(|(value, sum)| *value += self.scale * sum);
        }
    }
}

impl ModelFiles {
    /// The same model with an adapter added to its weights, which are held in main memory. Matrices in blocks become F16, floats
    /// keep their type.
    ///
    /// # Errors
    /// [`Error::Setting`] where the model has an adapter already, or a value is too large for its type; those of
    /// [`Adapter::new`] where the adapter is another model's; [`Error::ModelTooLarge`] where main memory has not the room;
    /// [`Error::Unsupported`] for a type that is not read; [`Error::TensorNotFinite`] for a damaged tensor.
    pub fn adapted(self, adapter: &Adapter) -> Result<ModelFiles> {
        if self.adapter_sha256().is_some() {
            return Err(Error::Setting("the model has an adapter already: run it with one".into()));
        }
        adapter.check(&self.config)?;
        let adapted = |module: &&super::Module| module.parts.iter().any(|&(part, _)| adapter.has(module.layer, part));
        let modules: Vec<&super::Module> = adapter.modules.iter().filter(adapted).collect();
        let mut bytes = 0;
        for module in &modules {
            for &(part, rows) in &module.parts {
                let view = self.tensor(TensorRole::Layer(module.layer, part))?;
                bytes += (rows * view.cols * known(view.kind, view.name)?.unpacked().block().1) as u64;
            }
        }
        check_memory(bytes, system_memory_available())?;
        let mut merged = Vec::with_capacity(modules.len());
        for module in modules {
            // Several parts are one tensor in the file, too.
            let (mut name, mut format, mut bytes) = (String::new(), WeightFormat::F16, Vec::new());
            for &(part, _) in &module.parts {
                let view = self.tensor(TensorRole::Layer(module.layer, part))?;
                let from = known(view.kind, view.name)?;
                (name, format) = (view.name.to_owned(), from.unpacked());
                let delta = adapter.factors.get(&(module.layer, part)).map(|factors| Delta {
                    factors,
                    rank: adapter.rank,
                    scale: adapter.scale(),
                    permutation: self.row_permutation(part),
                });
                bytes.extend(merge(&view, (from, format), delta)?);
            }
            merged.push((name, TensorType::of(format), bytes));
        }
        Ok(self.with_merged(merged, adapter.sha256()))
    }

    /// Where rows of this file's matrix lie in a Hugging Face folder, if elsewhere.
    pub(in crate::model) fn row_permutation(&self, tensor: LayerTensor) -> Option<Permutation> {
        let turned = matches!(tensor, LayerTensor::Q | LayerTensor::K);
        let differs = self.config.rope_layout == RopeLayout::Adjacent;
        (turned && differs).then_some(Permutation::new(self.config.head_dim))
    }
}

/// Refuses a machine that has not the room.
fn check_memory(needed: u64, available: Option<u64>) -> Result<()> {
    match available {
        Some(available) if available < needed => Err(Error::ModelTooLarge {
            needed: format!("{needed} bytes"),
            parts: "the matrices that the adapter changes".into(),
            adapter: "main memory".into(),
            available: format!("{available} bytes"),
            advice: "free some, or merge the adapter on a larger machine with `secateur convert --lora`".into(),
        }),
        _ => Ok(()),
    }
}

/// The bytes of a tensor with what is added to it, on every processor.
fn merge(view: &TensorView<'_>, formats: (WeightFormat, WeightFormat), delta: Option<Delta<'_>>) -> Result<Vec<u8>> {
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = view.rows.div_ceil(workers).min((AT_ONCE / view.cols).max(1));
    let mut out = Vec::new();
    for first in (0..view.rows).step_by(share * workers) {
        let parts: Vec<_> = std::thread::scope(|scope| {
            let starts = (first..view.rows).step_by(share).take(workers);
            let part = |start: usize| {
                let rows = start..view.rows.min(start + share);
                scope.spawn(move || merge_rows(view, rows, formats, delta))
            };
            let started: Vec<_> = starts.map(part).collect();
            started.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        for part in parts {
            out.extend(part.map_err(|_| Error::Internal(format!("merging `{}` panicked", view.name)))??);
        }
    }
    Ok(out)
}

fn merge_rows(
    view: &TensorView<'_>,
    rows: std::ops::Range<usize>,
    (from, to): (WeightFormat, WeightFormat),
    delta: Option<Delta<'_>>,
) -> Result<Vec<u8>> {
    let row_bytes = view.bytes.len() / view.rows;
    let bytes = &view.bytes[rows.start * row_bytes..rows.end * row_bytes];
    if let Some((index, value)) = from.first_not_finite(bytes) {
        return Err(Error::TensorNotFinite { name: view.name.into(), index: rows.start * view.cols + index, value });
    }
    let mut values = from.dequantise(bytes);
    if let Some(delta) = delta {
        delta.add(rows.start, &mut values, view.cols);
    }
    let encoded = to.quantise(&values);
    match to.first_not_finite(&encoded) {
        None => Ok(encoded),
        Some((index, _)) => Err(Error::Setting(format!(
            "`{}` with its adapter holds {:e} at element {}, which is too large for {}: take the model in BF16 or F32, or another adapter",
            view.name,
            values[index],
            rows.start * view.cols + index,
            to.name()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_room_is_told_with_both_numbers() {
        assert!(check_memory(100, Some(100)).is_ok());
        assert!(check_memory(100, None).is_ok(), "where nobody knows, it is tried");
        let error = check_memory(101, Some(100)).unwrap_err().to_string();
        assert!(error.contains("101 bytes") && error.contains("100 bytes") && error.contains("main memory"), "{error}");
    }
}

//! Rows of a tensor into another format, some at a time, on every processor.

use crate::error::{Error, Result};
use crate::format::WeightFormat;
use crate::model::TensorView;
use std::borrow::Cow;

/// Elements that are encoded between two writes: what is held is some times as many bytes.
const AT_ONCE: usize = 1 << 22;

/// Rows of GGUF's q and k in those of a Hugging Face folder: neighbours there are elements `i` and `i + head_dim / 2` here. Or the other
/// way round.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct Permutation {
    head_dim: usize,
    /// Whether rows of a folder are looked for in a GGUF file.
    back: bool,
}

impl Permutation {
    /// Of rows of a GGUF file, which are looked for in a folder.
    pub fn new(head_dim: usize) -> Permutation {
        Permutation { head_dim, back: false }
    }

    /// The other way round.
    pub fn inverse(self) -> Permutation {
        Permutation { back: !self.back, ..self }
    }

    /// The source's row of a row.
    pub fn source(self, row: usize) -> usize {
        let (half, head, within) = (self.head_dim / 2, row / self.head_dim, row % self.head_dim);
        let within = if self.back { within % half * 2 + within / half } else { within / 2 + within % 2 * half };
        head * self.head_dim + within
    }
}

/// Rows of a source.
pub(super) struct Rows<'a> {
    name: &'a str,
    format: WeightFormat,
    cols: usize,
    bytes: Cow<'a, [u8]>,
    permutation: Option<Permutation>,
}

/// What encoding did.
#[derive(Default)]
pub(super) struct Done {
    pub source_bytes: u64,
    pub squared_error: f64,
    pub squares: f64,
}

impl<'a> Rows<'a> {
    pub fn of_view(view: TensorView<'a>, format: WeightFormat, permutation: Option<Permutation>) -> Rows<'a> {
        Rows { name: view.name, format, cols: view.cols, bytes: view.bytes.into(), permutation }
    }

    /// A vector.
    pub fn of_values(name: &'a str, values: &[f32]) -> Rows<'a> {
        let bytes = bytemuck::cast_slice::<f32, u8>(values).to_vec().into();
        Rows { name, format: WeightFormat::F32, cols: values.len(), bytes, permutation: None }
    }

    fn row_bytes(&self) -> usize {
        let (elements, size) = self.format.block();
        self.cols / elements * size
    }

    /// Writes all rows in `to`.
    ///
    /// # Errors
    /// [`Error::TensorNotFinite`] with the first value of the source that is not, [`Error::Setting`] for one too large for `to`; those of
    /// `write`.
    pub fn encode(&self, to: WeightFormat, write: &mut dyn FnMut(&[u8]) -> Result<()>, done: &mut Done) -> Result<()> {
        let rows = self.bytes.len() / self.row_bytes();
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let share = (AT_ONCE / self.cols).div_ceil(workers).max(1);
        for first in (0..rows).step_by(share * workers) {
            let starts = (first..rows).step_by(share).take(workers);
            let parts: Vec<_> = std::thread::scope(|scope| {
                let part = |start: usize| scope.spawn(move || self.part(start..rows.min(start + share), to));
                let started: Vec<_> = starts.map(part).collect();
                started.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
            });
            for part in parts {
                let (bytes, part) =
                    part.map_err(|_| Error::Internal(format!("encoding `{}` panicked", self.name)))??;
                write(&bytes)?;
                done.source_bytes += part.source_bytes;
                done.squared_error += part.squared_error;
                done.squares += part.squares;
            }
        }
        Ok(())
    }

    /// Some rows in `to`.
    fn part(&self, rows: std::ops::Range<usize>, to: WeightFormat) -> Result<(Vec<u8>, Done)> {
        let row_bytes = self.row_bytes();
        let source = |row: usize| self.permutation.map_or(row, |permutation| permutation.source(row));
        let bytes: Cow<'_, [u8]> = match self.permutation {
            None => self.bytes[rows.start * row_bytes..rows.end * row_bytes].into(),
            Some(_) => {
                rows.clone().flat_map(|row| &self.bytes[source(row) * row_bytes..][..row_bytes]).copied().collect()
            }
        };
        if let Some((index, value)) = self.format.first_not_finite(&bytes) {
            let index = source(rows.start + index / self.cols) * self.cols + index % self.cols;
            return Err(Error::TensorNotFinite { name: self.name.into(), index, value });
        }
        let done = Done { source_bytes: bytes.len() as u64, ..Done::default() };
        let values = self.format.dequantise(&bytes);
        let squares = values.iter().map(|&value| f64::from(value).powi(2)).sum();
        if self.format == to {
            return Ok((bytes.into_owned(), Done { squares, ..done }));
        }
        let encoded = to.quantise(&values);
        if let Some((index, _)) = to.first_not_finite(&encoded) {
            let block = to.block().0;
            let most = values[index..][..block].iter().fold(0.0f32, |most, value| most.max(value.abs()));
            return Err(Error::Setting(format!(
                "`{}` holds {most:e} at element {}, which is too large for {}: convert to BF16 or F32",
                self.name,
                source(rows.start + index / self.cols) * self.cols + index % self.cols,
                to.name()
            )));
        }
        let off = |(now, before): (&f32, &f32)| (f64::from(*now) - f64::from(*before)).powi(2);
        let squared_error = to.dequantise(&encoded).iter().zip(&values).map(off).sum();
        Ok((encoded, Done { squares, squared_error, ..done }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_is_where_it_began() {
        let there = Permutation::new(6);
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(|row| there.source(row)), [0, 3, 1, 4, 2, 5, 6, 9]);
        for row in 0..24 {
            assert_eq!(there.inverse().source(there.source(row)), row);
            assert_eq!(there.source(there.inverse().source(row)), row);
        }
    }
}

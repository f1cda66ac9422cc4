//! Trained factors as an adapter.

use super::importance::in_order;
use super::training::Training;
use crate::error::Result;
use crate::llama::{failure, guarded};
use crate::model::LayerTensor;
use crate::model::adapter::{Adapter, Factors, FactorsByMatrix};

impl Training<'_> {
    /// The factors as they are now, for files in PEFT's form.
    ///
    /// # Errors
    /// Those of [`Adapter::new`]; [`crate::Error::Device`] when burn fails.
    pub fn adapter(&self) -> Result<Adapter> {
        let (config, rank) = (&self.files.config, self.options.rank);
        let factors = guarded("read the factors", || {
            let mut factors = FactorsByMatrix::new();
            for pair in &self.factors.pairs {
                let values =
                    |factor: burn::tensor::Tensor<2>| factor.transpose().try_into_vec_as::<f32>().map_err(failure);
                let (a, b) = (values(pair.a.value.clone())?, values(pair.b.value.clone())?);
                let rows: Vec<&[f32]> = b.chunks_exact(rank).collect();
                let rows = match pair.tensor {
                    LayerTensor::Q | LayerTensor::K => in_order(config, rows),
                    _ => rows,
                };
                factors.insert((pair.layer, pair.tensor), Factors { a, b: rows.concat() });
            }
            Ok(factors)
        })?;
        Adapter::new(config, rank, f64::from(self.options.alpha), factors)
    }
}

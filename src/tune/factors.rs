//! LoRA's factors of a model and what the optimizer remembers of them.

use super::options::TrainOptions;
use crate::config::ModelConfig;
use crate::error::Result;
use crate::llama::{LowRank, failure};
use crate::model::{LayerTensor, TensorRole};
use crate::random::SplitMix;
use burn::optim::{AdamW, AdamWState, AdaptiveMomentumState, Optimizer};
use burn::tensor::{Device, Tensor, TensorData};

/// Rows and columns of a projection in burn's layout, `[in, out]`.
pub(super) fn shape(config: &ModelConfig, tensor: LayerTensor) -> [usize; 2] {
    // All layers are alike.
    let [outputs, inputs] = TensorRole::Layer(0, tensor).shape(config);
    [inputs, outputs]
}

/// One factor, and AdamW's means of its gradients.
#[derive(Clone)]
pub(super) struct Factor {
    pub(super) value: Tensor<2>,
    pub(super) means: [Tensor<2>; 2], // of the gradient, of its square; like the value
}

impl Factor {
    fn new(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Factor {
        let value = Tensor::from_data(TensorData::new(values, shape), device);
        Factor { means: [(); 2].map(|()| Tensor::zeros(shape, device)), value }
    }

    /// One step behind `time` others.
    fn step(&mut self, optimizer: &AdamW, rate: f64, gradient: Tensor<2>, time: usize) {
        let [mean, square] = self.means.clone();
        let state = AdamWState::new(AdaptiveMomentumState::new(time, mean, square));
        let (value, state) = optimizer.step(rate, self.value.clone(), gradient, Some(state));
        self.value = value;
        if let Some(state) = state {
            self.means = [state.momentum.moment_1, state.momentum.moment_2];
        }
    }
}

/// The factors of one projection.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) layer: usize,
    pub(super) tensor: LayerTensor,
    pub(super) a: Factor, // [in, r]
    pub(super) b: Factor, // [r, out]
}

/// Gradients of a pair.
pub(super) type PairGradients = [Tensor<2>; 2];

/// The factors of every layer, by layer and projection.
pub(super) struct Factors {
    pub(super) pairs: Vec<Pair>,
    pub(super) scale: f32,
}

impl Factors {
    /// `a` is drawn from `[-1/sqrt(in), 1/sqrt(in))` as PEFT does it, `b` is zero: nothing changes yet.
    ///
    /// # Errors
    /// Those of [`TrainOptions::tensors`].
    pub(super) fn new(config: &ModelConfig, options: &TrainOptions, device: &Device) -> Result<Factors> {
        let (rank, tensors) = (options.rank, options.tensors()?);
        let mut random = SplitMix(options.seed);
        let mut within = |bound: f32| (((random.next() >> 40) as f32 / (1u64 << 23) as f32) - 1.0) * bound;
        let mut pairs = Vec::new();
        for layer in 0..config.num_hidden_layers {
            for &tensor in &tensors {
                let [inputs, outputs] = shape(config, tensor);
                let bound = 1.0 / (inputs as f32).sqrt();
                let a = (0..inputs * rank).map(|_| within(bound)).collect();
                pairs.push(Pair {
                    layer,
                    tensor,
                    a: Factor::new(a, [inputs, rank], device),
                    b: Factor::new(vec![0.0; rank * outputs], [rank, outputs], device),
                });
            }
        }
        Ok(Factors { pairs, scale: options.alpha / rank as f32 })
    }

    /// Those of one layer, and where they begin among all.
    pub(super) fn of_layer(&self, layer: usize) -> (usize, &[Pair]) {
        let start = self.pairs.partition_point(|pair| pair.layer < layer);
        let end = self.pairs.partition_point(|pair| pair.layer <= layer);
        (start, &self.pairs[start..end])
    }

    /// What they add to a layer, as constants.
    pub(super) fn constants(&self, layer: usize) -> Vec<(LayerTensor, LowRank)> {
        let low_rank = |pair: &Pair| LowRank { a: pair.a.value.clone(), b: pair.b.value.clone(), scale: self.scale };
        self.of_layer(layer).1.iter().map(|pair| (pair.tensor, low_rank(pair))).collect()
    }

    /// The same, to be differentiated by.
    pub(super) fn variables(&self, layer: usize) -> Vec<(LayerTensor, LowRank)> {
        let variable = |value: Tensor<2>| Tensor::from_inner(value).require_grad();
        let constants = self.constants(layer).into_iter();
        constants
            .map(|(tensor, LowRank { a, b, scale })| (tensor, LowRank { a: variable(a), b: variable(b), scale }))
            .collect()
    }

    /// One step of AdamW behind `time` others.
    pub(super) fn step(&mut self, optimizer: &AdamW, rate: f64, gradients: Vec<PairGradients>, time: usize) {
        for (pair, [a, b]) in self.pairs.iter_mut().zip(gradients) {
            pair.a.step(optimizer, rate, a, time);
            pair.b.step(optimizer, rate, b, time);
        }
    }
}

/// The norm over all gradients.
pub(super) fn norm(gradients: &[PairGradients]) -> Result<f64> {
    let squares: Vec<Tensor<1>> =
        gradients.iter().flatten().map(|gradient| (gradient.clone() * gradient.clone()).sum()).collect();
    let squares = Tensor::cat(squares, 0).try_into_vec_as::<f32>().map_err(failure)?;
    Ok(squares.into_iter().map(f64::from).sum::<f64>().sqrt())
}

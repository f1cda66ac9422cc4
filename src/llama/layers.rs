//! The parts of a LLaMA in burn, and how their weights come out of the files.

use crate::config::{ModelConfig, RopeLayout};
use crate::error::{Error, Result};
use crate::format::WeightFormat;
use crate::model::{LayerTensor, ModelFiles, TensorRole, TensorView};
use burn::module::Param;
use burn::nn::{Embedding, Linear, RmsNorm};
use burn::tensor::activation::{silu, softmax};
use burn::tensor::module::linear as product;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

/// Keys and values of one layer so far, `[K, tokens, head_dim]` each.
pub(crate) type KeyValues = [Tensor<3>; 2];

/// What LoRA adds to a projection of `x`: `scale * (x a) b` (Hu et al.: arXiv 2106.09685, equation 3, whose `A` and `B` are the
/// transposes).
#[derive(Clone)]
pub(crate) struct LowRank {
    pub(crate) a: Tensor<2>, // [in, r]
    pub(crate) b: Tensor<2>, // [r, out]
    pub(crate) scale: f32,
}

/// What a layer computes beside its own weights.
///
/// burn's own LoRA makes the whole sum of weight and product, and so the gradient of a whole weight; these two products need
/// neither.
#[derive(Default)]
pub(crate) struct Extras {
    /// By projection.
    pub(crate) low_rank: Vec<(LayerTensor, LowRank)>,
    /// 1 for kept and 0 for dropped channels of what o, `[1, A*d]`, and down, `[1, C]`, read; `None` = all are kept.
    pub(crate) kept: [Option<Tensor<2>>; 2],
    /// What is added behind o and down for what is dropped, `[1, H]`.
    pub(crate) biases: [Option<Tensor<2>>; 2],
}

/// What all layers share in a pass.
pub(crate) struct Scene<'s> {
    pub(crate) config: &'s ModelConfig,
    pub(crate) turns: &'s Turns,
    pub(crate) hidden: Option<Tensor<2, Bool>>, // [T, slots]; true where a token must not look
}

/// The weights of one layer. `H` hidden, `A` heads, `K` kv heads, `d` head size, `C` channels.
pub(crate) struct Layer {
    attention_norm: RmsNorm, // [H]
    q: Linear,               // [H, A*d]
    k: Linear,               // [H, K*d]
    v: Linear,               // [H, K*d]
    o: Linear,               // [A*d, H]
    mlp_norm: RmsNorm,       // [H]
    gate: Linear,            // [H, C]
    up: Linear,              // [H, C]
    down: Linear,            // [C, H]
}

impl Layer {
    /// Uploads the layer with this index. On a device with autodiff, gradients of every weight are wanted.
    ///
    /// # Errors
    /// Those of [`linear`].
    pub(crate) fn load(files: &ModelFiles, index: usize, device: &Device) -> Result<Layer> {
        let linear = |tensor| linear(files, TensorRole::Layer(index, tensor), device);
        let norm = |tensor| norm(files, TensorRole::Layer(index, tensor), device);
        Ok(Layer {
            attention_norm: norm(LayerTensor::AttentionNorm)?,
            q: linear(LayerTensor::Q)?,
            k: linear(LayerTensor::K)?,
            v: linear(LayerTensor::V)?,
            o: linear(LayerTensor::O)?,
            mlp_norm: norm(LayerTensor::MlpNorm)?,
            gate: linear(LayerTensor::Gate)?,
            up: linear(LayerTensor::Up)?,
            down: linear(LayerTensor::Down)?,
        })
    }

    /// The scale of a norm, `[H]`; of a tensor that is none, nothing.
    pub(crate) fn scale(&self, tensor: LayerTensor) -> Option<Tensor<1>> {
        match tensor {
            LayerTensor::AttentionNorm => Some(self.attention_norm.gamma.val()),
            LayerTensor::MlpNorm => Some(self.mlp_norm.gamma.val()),
            _ => None,
        }
    }

    /// A projection, `[in, out]`; of a tensor that is none, nothing.
    pub(crate) fn projection(&self, tensor: LayerTensor) -> Option<Tensor<2>> {
        self.linear(tensor).map(|linear| linear.weight.val())
    }

    fn linear(&self, tensor: LayerTensor) -> Option<&Linear> {
        Some(match tensor {
            LayerTensor::Q => &self.q,
            LayerTensor::K => &self.k,
            LayerTensor::V => &self.v,
            LayerTensor::O => &self.o,
            LayerTensor::Gate => &self.gate,
            LayerTensor::Up => &self.up,
            LayerTensor::Down => &self.down,
            _ => return None,
        })
    }

    /// The residual stream after this layer, from the one before it: `[T, H]` both.
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        scene: &Scene<'_>,
        cache: &mut Option<KeyValues>,
        extras: &Extras,
    ) -> Tensor<2> {
        let with = |tensor, linear: &Linear, x: Tensor<2>| {
            let own = linear.forward(x.clone());
            match extras.low_rank.iter().find(|(of, _)| *of == tensor) {
                Some((_, LowRank { a, b, scale })) => own + x.matmul(a.clone()).matmul(b.clone()) * *scale,
                None => own,
            }
        };
        let kept = |half: usize, x: Tensor<2>| match &extras.kept[half] {
            Some(kept) => x * kept.clone(),
            None => x,
        };
        let biased = |half: usize, x: Tensor<2>| match &extras.biases[half] {
            Some(bias) => x + bias.clone(),
            None => x,
        };
        let normed = self.attention_norm.forward(x.clone());
        let q = with(LayerTensor::Q, &self.q, normed.clone());
        let k = with(LayerTensor::K, &self.k, normed.clone());
        let v = with(LayerTensor::V, &self.v, normed);
        let mixed = kept(0, attention([q, k, v], scene, cache));
        let x = biased(0, x + with(LayerTensor::O, &self.o, mixed));
        let normed = self.mlp_norm.forward(x.clone());
        let gate = silu(with(LayerTensor::Gate, &self.gate, normed.clone()));
        let active = kept(1, gate * with(LayerTensor::Up, &self.up, normed));
        biased(1, x + with(LayerTensor::Down, &self.down, active))
    }
}

/// What the heads mix out of `q [T, A*d]`, `k` and `v` `[T, K*d]`, and the cache: `[T, A*d]`.
fn attention([q, k, v]: [Tensor<2>; 3], scene: &Scene<'_>, cache: &mut Option<KeyValues>) -> Tensor<2> {
    let ([tokens, _], config) = (q.dims(), scene.config);
    let (kv_heads, group, d) = (config.num_key_value_heads, config.group_size(), config.head_dim);
    let by_head = |x: Tensor<2>, heads| x.reshape([tokens, heads, d]).swap_dims(0, 1);
    let q = scene.turns.apply(by_head(q, kv_heads * group));
    let k = scene.turns.apply(by_head(k, kv_heads));
    let v = by_head(v, kv_heads);
    let [k, v] = match cache.take() {
        Some([past_k, past_v]) => [Tensor::cat(vec![past_k, k], 1), Tensor::cat(vec![past_v, v], 1)],
        None => [k, v],
    };
    *cache = Some([k.clone(), v.clone()]);
    let [_, slots, _] = k.dims();
    // The query heads of a group are rows of one product, so that keys and values need not be repeated for each.
    let q = q.reshape([kv_heads, group * tokens, d]) / (d as f32).sqrt();
    let mut scores = q.matmul(k.swap_dims(1, 2));
    if let Some(hidden) = &scene.hidden {
        let shape = [kv_heads, group, tokens, slots];
        let hidden = hidden.clone().reshape([1, 1, tokens, slots]).expand(shape);
        let open = scores.reshape(shape).mask_fill(hidden, f32::NEG_INFINITY);
        scores = open.reshape([kv_heads, group * tokens, slots]);
    }
    let mixed = softmax(scores, 2).matmul(v);
    mixed.reshape([kv_heads * group, tokens, d]).swap_dims(0, 1).reshape([tokens, kv_heads * group * d])
}

/// The last norm and the output head.
pub(crate) struct Head {
    norm: RmsNorm,          // [H]
    output: Option<Linear>, // [H, vocab]; None = the embedding
    embedding: Tensor<2>,   // [vocab, H]
}

impl Head {
    /// Uploads them; the embedding lies on the device already.
    ///
    /// # Errors
    /// Those of [`linear`].
    pub(crate) fn load(files: &ModelFiles, embedding: &Embedding, device: &Device) -> Result<Head> {
        let output = match files.config.tie_word_embeddings {
            true => None,
            false => Some(linear(files, TensorRole::Output, device)?),
        };
        let norm = norm(files, TensorRole::OutputNorm, device)?;
        Ok(Head { norm, output, embedding: embedding.weight.val() })
    }

    /// Logits `[rows, vocab]` of states `x [rows, H]`.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let normed = self.norm.forward(x);
        match &self.output {
            Some(output) => output.forward(normed),
            None => product(normed, self.embedding.clone().transpose(), None),
        }
    }
}

/// The first residual stream of a text, `[T, H]`.
pub(crate) fn embed(embedding: &Embedding, ids: &[u32]) -> Tensor<2> {
    let ids_of_burn: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    let data = TensorData::new(ids_of_burn, [1, ids.len()]);
    embedding.forward(Tensor::<2, Int>::from_data(data, &embedding.weight.device())).squeeze_dim::<2>(0)
}

/// What `tokens` tokens behind `start` others must not look at, `[T, slots]`; a single one sees everything.
pub(crate) fn hidden((start, tokens): (usize, usize), device: &Device) -> Option<Tensor<2, Bool>> {
    (tokens > 1).then(|| Tensor::<2, Bool>::tril_mask([tokens, start + tokens], start as i64, device))
}

/// Rotary position embedding for the positions of one pass.
pub(crate) struct Turns {
    cos: Tensor<4>, // like a head of T tokens whose elements are cut into pairs, with 1 in place of the two
    sin: Tensor<4>,
    layout: RopeLayout,
}

impl Turns {
    /// For `tokens` positions from `start` on; `frequencies` in radians per position.
    pub(crate) fn new(
        config: &ModelConfig,
        frequencies: &[f32],
        (start, tokens): (usize, usize),
        device: &Device,
    ) -> Turns {
        let (layout, half) = (config.rope_layout, frequencies.len());
        let shape = match layout {
            RopeLayout::Adjacent => [1, tokens, half, 1],
            RopeLayout::Halves => [1, tokens, 1, half],
        };
        let table = |of: fn(f64) -> f64| {
            let angles = (start..start + tokens)
                .flat_map(|position| frequencies.iter().map(move |&frequency| position as f64 * f64::from(frequency)));
            let values: Vec<f32> = angles.map(|angle| of(angle) as f32).collect();
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        Turns { cos: table(f64::cos), sin: table(f64::sin), layout }
    }

    /// `x [heads, T, d]`, turned.
    fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        let [heads, tokens, d] = x.dims();
        let (pairs, axis) = match self.layout {
            RopeLayout::Adjacent => ([heads, tokens, d / 2, 2], 3),
            RopeLayout::Halves => ([heads, tokens, 2, d / 2], 2),
        };
        let x = x.reshape(pairs);
        let (a, b) = (x.clone().narrow(axis, 0, 1), x.narrow(axis, 1, 1));
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let turned = vec![a.clone() * cos.clone() - b.clone() * sin.clone(), a * sin + b * cos];
        Tensor::cat(turned, axis).reshape([heads, tokens, d])
    }
}

/// A projection, `[in, out]` as burn lays it out: the files hold rows of the transpose. (A transposed view of those rows
/// needs no copy, but burn decodes a third slower with it on a software adapter.)
///
/// # Errors
/// Those of [`values`].
pub(crate) fn linear(files: &ModelFiles, role: TensorRole, device: &Device) -> Result<Linear> {
    let (values, [rows, cols]) = values(files, role)?;
    let transposed: Vec<f32> = (0..cols).flat_map(|col| values[col..].iter().step_by(cols).copied()).collect();
    let weight = Tensor::from_data(TensorData::new(transposed, [cols, rows]), device);
    Ok(Linear { weight: Param::from_tensor(weight), bias: None })
}

/// The scale of a norm.
///
/// # Errors
/// Those of [`values`].
pub(crate) fn norm(files: &ModelFiles, role: TensorRole, device: &Device) -> Result<RmsNorm> {
    let (values, [_, cols]) = values(files, role)?;
    let gamma = Param::from_tensor(Tensor::from_data(TensorData::new(values, [cols]), device));
    Ok(RmsNorm { gamma, epsilon: f64::from(files.config.rms_norm_eps) })
}

/// The rows of the tokens, `[vocab, H]`.
///
/// # Errors
/// Those of [`values`].
pub(crate) fn embedding(files: &ModelFiles, device: &Device) -> Result<Embedding> {
    let (values, shape) = values(files, TensorRole::TokenEmbedding)?;
    Ok(Embedding { weight: Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device)) })
}

/// A tensor decoded to f32, and its rows and columns in the file.
///
/// # Errors
/// [`Error::Unsupported`] for a type that cannot be decoded, [`Error::TensorNotFinite`] for damaged values, and those of
/// [`ModelFiles::tensor`].
fn values(files: &ModelFiles, role: TensorRole) -> Result<(Vec<f32>, [usize; 2])> {
    let TensorView { name, kind, rows, cols, bytes } = files.tensor(role)?;
    let format = WeightFormat::by_name(kind.name()).ok_or_else(|| Error::Unsupported {
        what: "tensor type",
        name: format!("{kind} of `{name}`"),
        supported: WeightFormat::ALL.map(WeightFormat::name).join(", "),
    })?;
    if let Some((index, value)) = format.first_not_finite(bytes) {
        return Err(Error::TensorNotFinite { name: name.to_string(), index, value });
    }
    Ok((format.dequantise(bytes), [rows, cols]))
}

//! A naive LLaMA, one of its relatives, or an OPT, on the CPU, for models small enough: plain loops over 64-bit floats, so that a
//! difference to the engine is the engine's rounding alone. It shares no code with `src/`, knows no padding (samples have
//! their own lengths), and computes every unit always: pruning sets what was dropped to zero (or to means) before `o_proj`
//! and `down_proj`.

pub mod calibration;
pub mod chat;
pub mod probing;
pub mod statics;

use secateur::config::{MlpKind, ModelConfig, Norms, RopeLayout, RopeScaling};
use secateur::format::WeightFormat;
use secateur::model::{LayerTensor, ModelFiles, TensorRole};
use std::collections::BTreeMap;

/// The two halves of a layer, each with its own kind of prunable unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Half {
    /// Units are query heads; the ranked input is that of `o_proj`.
    Attention,
    /// Units are channels; the ranked input is that of `down_proj`.
    Mlp,
}

/// A place where units are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    pub layer: usize,
    pub half: Half,
}

/// Kept units by site, ascending; a site that is missing keeps all.
pub type Masks = BTreeMap<Site, Vec<u32>>;

/// What a method sees before a half runs, by sample.
pub struct Before<'a> {
    /// Residual stream, `[tokens][H]`.
    pub residual: &'a [Vec<f64>],
    /// Normed state, `[tokens][H]`.
    pub normed: &'a [Vec<f64>],
    /// Position of the first token.
    pub first: &'a [usize],
}

/// A way of choosing units.
pub trait Method {
    /// The units that this half keeps; `None` = all.
    fn choose(&mut self, model: &Reference, site: Site, before: &Before<'_>) -> Option<Vec<u32>>;

    /// Shows the ranked input of every unit, dropped ones too, by sample `[tokens][width]`.
    fn ran(&mut self, _site: Site, _inputs: &[Vec<f64>], _kept: Option<&[u32]>) {}

    /// What the inputs of dropped units count as, `[width]`; `None` = zero.
    fn stand_in(&self, _site: Site) -> Option<&[f64]> {
        None
    }
}

impl Method for Masks {
    fn choose(&mut self, _: &Reference, site: Site, _: &Before<'_>) -> Option<Vec<u32>> {
        self.get(&site).cloned()
    }
}

/// Keys (turned) and values of one sequence in one layer, `[tokens][K*d]`, and the positions of the tokens.
#[derive(Debug, Clone, Default)]
pub struct Past {
    k: Vec<f64>,
    v: Vec<f64>,
    positions: Vec<usize>,
}

/// A sequence so far: what attention remembers, by layer.
#[derive(Debug, Clone)]
pub struct Stream {
    past: Vec<Past>,
    pub length: usize,
}

/// What a run saw: `[layer][sample]`, each a matrix with a row a token.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Residual stream entering the layer.
    pub entering: Vec<Vec<Vec<f64>>>,
    /// Input of `o_proj`.
    pub mixed: Vec<Vec<Vec<f64>>>,
    /// Input of `down_proj`.
    pub active: Vec<Vec<Vec<f64>>>,
    /// By sample: the residual stream after the last layer.
    pub last: Vec<Vec<f64>>,
}

/// Weights of a layer, as in the file: `[out][in]`. What the model has not is empty.
struct Layer {
    /// Scale and shift.
    attention_norm: [Vec<f64>; 2],
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    /// Of q, k and v.
    biases: [Vec<f64>; 3],
    /// Of a head of q and of k.
    qk_norm: [Vec<f64>; 2],
    o: Vec<f64>,
    o_bias: Vec<f64>,
    /// Scale and shift.
    mlp_norm: [Vec<f64>; 2],
    gate: Vec<f64>,
    up: Vec<f64>,
    up_bias: Vec<f64>,
    down: Vec<f64>,
    down_bias: Vec<f64>,
}

/// The model.
pub struct Reference {
    pub config: ModelConfig,
    embedding: Vec<f64>,
    /// `[offset + positions][H]`; empty where the model learns none.
    positions: Vec<f64>,
    /// What widens embeddings, and what narrows the last state; empty where nothing does.
    projections: [Vec<f64>; 2],
    output: Option<Vec<f64>>,
    /// Scale and shift.
    output_norm: [Vec<f64>; 2],
    layers: Vec<Layer>,
    frequencies: Vec<f64>,
}

impl Reference {
    /// Reads every weight as the file's bytes say.
    pub fn new(files: &ModelFiles) -> Reference {
        let config = files.config.clone();
        let read = |role: TensorRole| -> Vec<f64> {
            let view = files.tensor(role).expect("a tensor of a whole model");
            let format = WeightFormat::by_name(view.kind.name()).expect("a type with kernels");
            format.dequantise(view.bytes).into_iter().map(f64::from).collect()
        };
        let if_there = |there: bool, role: TensorRole| if there { read(role) } else { Vec::new() };
        let norms = config.blocks.norms;
        let layer = |index: usize| {
            let has = |tensor: LayerTensor| match tensor {
                LayerTensor::QBias | LayerTensor::KBias | LayerTensor::VBias => config.blocks.qkv_bias,
                LayerTensor::QNorm | LayerTensor::KNorm => config.blocks.qk_norm,
                LayerTensor::OBias | LayerTensor::UpBias | LayerTensor::DownBias => config.blocks.output_bias,
                LayerTensor::AttentionNormBias | LayerTensor::MlpNormBias => norms != Norms::Rms,
                LayerTensor::Gate => config.blocks.mlp == MlpKind::SwiGlu,
                _ => true,
            };
            let read = |tensor| if_there(has(tensor), TensorRole::Layer(index, tensor));
            Layer {
                attention_norm: [LayerTensor::AttentionNorm, LayerTensor::AttentionNormBias].map(read),
                q: read(LayerTensor::Q),
                k: read(LayerTensor::K),
                v: read(LayerTensor::V),
                biases: [LayerTensor::QBias, LayerTensor::KBias, LayerTensor::VBias].map(read),
                qk_norm: [LayerTensor::QNorm, LayerTensor::KNorm].map(read),
                o: read(LayerTensor::O),
                o_bias: read(LayerTensor::OBias),
                mlp_norm: [LayerTensor::MlpNorm, LayerTensor::MlpNormBias].map(read),
                gate: read(LayerTensor::Gate),
                up: read(LayerTensor::Up),
                up_bias: read(LayerTensor::UpBias),
                down: read(LayerTensor::Down),
                down_bias: read(LayerTensor::DownBias),
            }
        };
        let projects = config.word_embed_proj_dim.is_some();
        let layers: Vec<Layer> = (0..config.num_hidden_layers).map(layer).collect();
        Reference {
            embedding: read(TensorRole::TokenEmbedding),
            positions: if_there(config.position_offset.is_some(), TensorRole::PositionEmbedding),
            projections: [TensorRole::ProjectIn, TensorRole::ProjectOut].map(|role| if_there(projects, role)),
            output: (!config.tie_word_embeddings).then(|| read(TensorRole::Output)),
            output_norm: match norms {
                Norms::Rms => [read(TensorRole::OutputNorm), Vec::new()],
                Norms::LayerBefore => [TensorRole::OutputNorm, TensorRole::OutputNormBias].map(read),
                Norms::LayerBehind => layers[layers.len() - 1].mlp_norm.clone(),
            },
            layers,
            frequencies: frequencies(&config),
            config,
        }
    }

    /// A sequence without tokens.
    pub fn empty(&self) -> Stream {
        Stream { past: vec![Past::default(); self.layers.len()], length: 0 }
    }

    /// Width of a half's ranked input, and the columns of one of its units.
    pub fn widths(&self, half: Half) -> (usize, usize) {
        match half {
            Half::Attention => (self.config.num_attention_heads * self.config.head_dim, self.config.head_dim),
            Half::Mlp => (self.config.intermediate_size, 1),
        }
    }

    /// The weight behind a half's ranked input, `[H][width]`.
    pub fn reader(&self, site: Site) -> &[f64] {
        match site.half {
            Half::Attention => &self.layers[site.layer].o,
            Half::Mlp => &self.layers[site.layer].down,
        }
    }

    /// Appends `batch[i]` to `streams[i]`, layer by layer over the whole batch.
    pub fn run(&self, streams: &mut [Stream], batch: &[Vec<u32>], method: &mut dyn Method) -> Run {
        let hidden = self.config.hidden_size;
        let of_sample = |(ids, stream): (&Vec<u32>, &Stream)| -> Vec<f64> {
            ids.iter().enumerate().flat_map(|(at, &id)| self.embed(id, stream.length + at)).collect()
        };
        let mut x: Vec<Vec<f64>> = batch.iter().zip(streams.iter()).map(of_sample).collect();
        let behind = self.config.blocks.norms == Norms::LayerBehind;
        let first: Vec<usize> = streams.iter().map(|stream| stream.length).collect();
        let mut run = Run::default();
        for (layer, weights) in self.layers.iter().enumerate() {
            run.entering.push(x.clone());
            for half in [Half::Attention, Half::Mlp] {
                let site = Site { layer, half };
                let (norm, bias) = match half {
                    Half::Attention => (&weights.attention_norm, &weights.o_bias),
                    Half::Mlp => (&weights.mlp_norm, &weights.down_bias),
                };
                let before = |x: &Vec<f64>| if behind { x.clone() } else { self.norm(x, norm) };
                let normed: Vec<Vec<f64>> = x.iter().map(before).collect();
                let kept = method.choose(self, site, &Before { residual: &x, normed: &normed, first: &first });
                let inputs: Vec<Vec<f64>> = normed
                    .iter()
                    .zip(streams.iter_mut())
                    .map(|(normed, stream)| {
                        let positions: Vec<usize> = (stream.length..stream.length + normed.len() / hidden).collect();
                        self.ranked_input(site, normed, &positions, &mut stream.past[layer])
                    })
                    .collect();
                method.ran(site, &inputs, kept.as_deref());
                for (x, input) in x.iter_mut().zip(&inputs) {
                    self.add_projection(site, x, input, kept.as_deref().map(|kept| (kept, method.stand_in(site))));
                    if !bias.is_empty() {
                        x.iter_mut().zip(bias.iter().cycle()).for_each(|(x, bias)| *x += bias);
                    }
                    // The very last norm is that in front of the head.
                    if behind && (layer, half) != (self.layers.len() - 1, Half::Mlp) {
                        *x = self.norm(x, norm);
                    }
                }
                match half {
                    Half::Attention => run.mixed.push(inputs),
                    Half::Mlp => run.active.push(inputs),
                }
            }
        }
        for (stream, ids) in streams.iter_mut().zip(batch) {
            stream.length += ids.len();
        }
        run.last = x;
        run
    }

    /// Runs a batch of new sequences.
    pub fn run_batch(&self, batch: &[Vec<u32>], method: &mut dyn Method) -> Run {
        self.run(&mut vec![self.empty(); batch.len()], batch, method)
    }

    /// A token's embedding at its position, as wide as the residual stream.
    fn embed(&self, id: u32, position: usize) -> Vec<f64> {
        let (hidden, [widen, _]) = (self.config.hidden_size, &self.projections);
        let width = self.config.word_embed_proj_dim.unwrap_or(hidden);
        let row = &self.embedding[id as usize * width..][..width];
        let mut x = if widen.is_empty() { row.to_vec() } else { product(widen, row) };
        if let Some(offset) = self.config.position_offset {
            x.iter_mut().zip(&self.positions[(offset + position) * hidden..]).for_each(|(x, learned)| *x += learned);
        }
        x
    }

    /// Logits of every row of a residual stream after the last layer: `[tokens][vocab]`.
    pub fn logits(&self, last: &[f64]) -> Vec<Vec<f64>> {
        let (hidden, [_, narrow]) = (self.config.hidden_size, &self.projections);
        let head = self.output.as_ref().unwrap_or(&self.embedding);
        let of_row = |row: &[f64]| match narrow.is_empty() {
            true => product(head, row),
            false => product(head, &product(narrow, row)),
        };
        self.norm(last, &self.output_norm).chunks_exact(hidden).map(of_row).collect()
    }

    /// Logits of the last row.
    pub fn last_logits(&self, last: &[f64]) -> Vec<f64> {
        self.logits(&last[last.len() - self.config.hidden_size..]).remove(0)
    }

    /// `-log p` of tokens 1.. of a sample, in nats.
    pub fn nll(&self, ids: &[u32], last: &[f64]) -> Vec<f64> {
        let of = |(logits, &target): (Vec<f64>, &u32)| {
            let top = logits.iter().copied().fold(f64::MIN, f64::max);
            let total: f64 = logits.iter().map(|logit| (logit - top).exp()).sum();
            total.ln() + top - logits[target as usize]
        };
        self.logits(last).into_iter().zip(&ids[1..]).map(of).collect()
    }

    /// Everything of a half up to its ranked input, for normed rows at their own positions; attention sees `past`, the
    /// rows before, and the row itself.
    pub fn ranked_input(&self, site: Site, normed: &[f64], positions: &[usize], past: &mut Past) -> Vec<f64> {
        let rows = normed.chunks_exact(self.config.hidden_size);
        let weights = &self.layers[site.layer];
        match site.half {
            Half::Attention => {
                rows.zip(positions).flat_map(|(row, &position)| self.mix(site.layer, row, position, past)).collect()
            }
            Half::Mlp => rows
                .flat_map(|row| -> Vec<f64> {
                    let up = product(&weights.up, row);
                    if self.config.blocks.mlp == MlpKind::Relu {
                        return up.iter().zip(&weights.up_bias).map(|(up, bias)| (up + bias).max(0.0)).collect();
                    }
                    let gate = product(&weights.gate, row);
                    gate.into_iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect()
                })
                .collect(),
        }
    }

    fn mix(&self, layer: usize, row: &[f64], position: usize, past: &mut Past) -> Vec<f64> {
        let (d, kv_heads, weights) = (self.config.head_dim, self.config.num_key_value_heads, &self.layers[layer]);
        let blocks = &self.config.blocks;
        let [mut q, mut k, mut v] = [&weights.q, &weights.k, &weights.v].map(|weight| product(weight, row));
        for (x, bias) in [&mut q, &mut k, &mut v].into_iter().zip(&weights.biases) {
            x.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
        }
        for (x, scale) in [&mut q, &mut k].into_iter().zip(&weights.qk_norm) {
            if blocks.qk_norm {
                *x = self.rms_norm(x, scale);
            }
            if !blocks.no_rope_layers.contains(&layer) {
                self.turn(x, position);
            }
        }
        past.k.extend(k);
        past.v.extend(v);
        past.positions.push(position);
        let sliding_window = blocks.sliding_window.filter(|_| !blocks.full_attention_layers.contains(&layer));
        let hidden = |slot: usize| sliding_window.is_some_and(|window| past.positions[slot] + window <= position);
        let group = self.config.num_attention_heads / kv_heads;
        let mut mixed = Vec::with_capacity(q.len());
        for (head, q) in q.chunks_exact(d).enumerate() {
            let at = |row: usize| (row * kv_heads + head / group) * d;
            let slots = past.k.len() / (kv_heads * d);
            let scores: Vec<f64> =
                (0..slots).map(|slot| dot(q, &past.k[at(slot)..][..d]) / (d as f64).sqrt()).collect();
            let top = (0..slots).filter(|&slot| !hidden(slot)).map(|slot| scores[slot]).fold(f64::MIN, f64::max);
            let share = |(slot, score): (usize, &f64)| if hidden(slot) { 0.0 } else { (score - top).exp() };
            let shares: Vec<f64> = scores.iter().enumerate().map(share).collect();
            let total: f64 = shares.iter().sum();
            let mut out = vec![0.0; d];
            for (slot, share) in shares.iter().enumerate() {
                out.iter_mut().zip(&past.v[at(slot)..][..d]).for_each(|(out, v)| *out += share / total * v);
            }
            mixed.extend(out);
        }
        mixed
    }

    /// Turns every head of one row by its position.
    fn turn(&self, row: &mut [f64], position: usize) {
        let half = self.config.head_dim / 2;
        for head in row.chunks_exact_mut(self.config.head_dim) {
            for (i, frequency) in self.frequencies.iter().enumerate() {
                let (a, b) = match self.config.rope_layout {
                    RopeLayout::Adjacent => (2 * i, 2 * i + 1),
                    RopeLayout::Halves => (i, i + half),
                };
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
            }
        }
    }

    /// The norm of every row, by scale and shift.
    fn norm(&self, x: &[f64], [scale, shift]: &[Vec<f64>; 2]) -> Vec<f64> {
        if self.config.blocks.norms == Norms::Rms {
            return self.rms_norm(x, scale);
        }
        x.chunks_exact(scale.len())
            .flat_map(|row| {
                let mean = row.iter().sum::<f64>() / row.len() as f64;
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / row.len() as f64;
                let deviation = (variance + f64::from(self.config.rms_norm_eps)).sqrt();
                let terms = row.iter().zip(scale.iter().zip(shift));
                terms.map(move |(x, (scale, shift))| (x - mean) / deviation * scale + shift)
            })
            .collect()
    }

    /// RMS norm of every row.
    fn rms_norm(&self, x: &[f64], scale: &[f64]) -> Vec<f64> {
        x.chunks_exact(scale.len())
            .flat_map(|row| {
                let mean = dot(row, row) / row.len() as f64;
                let factor = 1.0 / (mean + f64::from(self.config.rms_norm_eps)).sqrt();
                row.iter().zip(scale).map(move |(x, scale)| x * factor * scale)
            })
            .collect()
    }

    /// `x += W input`, where the units that are not kept count as zero or as what stands in for them.
    fn add_projection(&self, site: Site, x: &mut [f64], input: &[f64], kept: Option<(&[u32], Option<&[f64]>)>) {
        let (width, unit) = self.widths(site.half);
        for (x, input) in x.chunks_exact_mut(self.config.hidden_size).zip(input.chunks_exact(width)) {
            let mut input = input.to_vec();
            for (column, value) in input.iter_mut().enumerate() {
                if let Some((kept, stand_in)) = kept
                    && !kept.contains(&((column / unit) as u32))
                {
                    *value = stand_in.map_or(0.0, |means| means[column]);
                }
            }
            x.iter_mut().zip(product(self.reader(site), &input)).for_each(|(x, y)| *x += y);
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `W x` of `w [out][x.len()]`.
fn product(w: &[f64], x: &[f64]) -> Vec<f64> {
    w.chunks_exact(x.len()).map(|row| dot(row, x)).collect()
}

/// Radians a position, after Hugging Face's `modeling_rope_utils`. Implementations hold them as 32-bit floats, so these
/// are rounded to them.
fn frequencies(config: &ModelConfig) -> Vec<f64> {
    let d = config.head_dim as f64;
    (0..config.head_dim / 2)
        .map(|i| {
            let base = f64::from(config.rope_theta).powf(-2.0 * i as f64 / d);
            let scaled = match &config.rope_scaling {
                None => base,
                Some(RopeScaling::Linear { factor }) => base / f64::from(*factor),
                Some(RopeScaling::Factors(factors)) => base / f64::from(factors[i]),
                Some(RopeScaling::Llama3 {
                    factor,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_position_embeddings,
                }) => {
                    let (low, high) = (f64::from(*low_freq_factor), f64::from(*high_freq_factor));
                    let trained = f64::from(*original_max_position_embeddings);
                    let wavelength = std::f64::consts::TAU / base;
                    if wavelength < trained / high {
                        base
                    } else if wavelength > trained / low {
                        base / f64::from(*factor)
                    } else {
                        let smooth = (trained / wavelength - low) / (high - low);
                        (1.0 - smooth) * base / f64::from(*factor) + smooth * base
                    }
                }
            };
            f64::from(scaled as f32)
        })
        .collect()
}

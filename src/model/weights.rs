//! A model's weights on the GPU, uploaded tensor by tensor out of the mapped files, or in a browser out of pieces of the file
//! that are read one after another: the host never holds a second copy.

use super::files::Tensors;
use super::{LayerTensor, Mlp, ModelFiles, Norm, TensorRole, TensorView};
use crate::config::{Blocks, MlpKind, ModelConfig, Norms, RopeLayout};
use crate::error::{Error, Result};
use crate::format::{HostTensor, Layout, Weight, WeightFormat, rows_per_shard};
use crate::gpu::{Buffer, Gpu};
use crate::kernels::column_power::{self, Degree};
use crate::kernels::layer_norm::Place;
use crate::kernels::rope_append::{self, Turns};
#[cfg(not(target_arch = "wasm32"))]
use std::sync::atomic::{AtomicUsize, Ordering};

/// The weights of one transformer layer. `H` hidden, `A` heads, `K` kv heads, `d` head size, `C` channels.
pub struct LayerWeights {
    /// In front of attention.
    pub attention_norm: Norm,
    /// `[A*d + 2*K*d, H]`, by rows: q, then k, then v.
    pub qkv: Weight,
    /// `[A*d + 2*K*d]`: what is added to q, k and v; `None` = nothing.
    pub qkv_bias: Option<Buffer>,
    /// `[2*d]`: scales of the norm of a query head, then of a key head; `None` = heads are not normed.
    pub qk_norm: Option<Buffer>,
    /// Whether q and k are turned by rope.
    pub has_rope: bool,
    /// Tokens that a query sees, its own among them; `None` = all before it.
    pub sliding_window: Option<usize>,
    /// `[H, A*d]`, by columns.
    pub o: Weight,
    /// `[H]`: what is added to what o makes; `None` = nothing.
    pub o_bias: Option<Buffer>,
    /// `[A*d]`: the constant factor of each column's score.
    pub o_power: Buffer,
    /// In front of the MLP.
    pub mlp_norm: Norm,
    /// The first half of the MLP.
    pub mlp: Mlp,
    /// `[H, C]`, by columns.
    pub down: Weight,
    /// `[H]`: what is added to what down makes; `None` = nothing.
    pub down_bias: Option<Buffer>,
    /// `[C]`: the constant factor of each channel's score.
    pub down_power: Buffer,
}

impl LayerWeights {
    /// What happens to its q, k and v before attention, in a model that turns them like `model`.
    pub fn turns<'a>(&'a self, model: Turns<'a>) -> Turns<'a> {
        Turns { bias: self.qkv_bias.as_ref(), norms: self.qk_norm.as_ref(), no_rope: !self.has_rope, ..model }
    }

    /// Names of the formats of its matrices.
    pub fn formats(&self) -> Vec<&'static str> {
        let weights = [&self.qkv, &self.o].into_iter().chain(self.mlp.matrices()).chain([&self.down]);
        weights.flat_map(|weight| &weight.shards).map(|shard| shard.format.name()).collect()
    }
}

/// A whole model on the GPU.
pub struct ModelWeights {
    /// Its shape.
    pub config: ModelConfig,
    /// `[vocab, E]`, by rows, where `E` is `H` but for models that project it.
    pub embedding: Weight,
    /// `[offset + positions, H]`: learned positions.
    pub positions: Option<Buffer>,
    /// `[H, E]`, by rows: what widens an embedding.
    pub project_in: Option<Weight>,
    /// `[E, H]`, by rows: what narrows the last state.
    pub project_out: Option<Weight>,
    /// `[vocab, E]`, by rows; `None` = the embedding.
    pub output: Option<Weight>,
    /// Behind the last layer.
    pub output_norm: Norm,
    /// In order.
    pub layers: Vec<LayerWeights>,
    pub(super) frequencies: Vec<f32>,
}

impl ModelWeights {
    /// Uploads every tensor; `progress` hears the share done, 0 to 1, and ends the upload by an error.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a tensor type without kernels, [`Error::TensorNotFinite`] for damaged values, and those
    /// of [`Gpu::buffer`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn upload(gpu: &Gpu, files: &ModelFiles, progress: &mut dyn FnMut(f32) -> Result<()>) -> Result<ModelWeights> {
        let config = files.config.clone();
        let tied = config.tie_word_embeddings;
        // The largest tensors by far are laid out beside the layers.
        let ends = || -> Result<(Weight, Option<Weight>)> {
            let embedding = weight(gpu, files, TensorRole::TokenEmbedding, Layout::Rows)?;
            let output = if tied { None } else { Some(weight(gpu, files, TensorRole::Output, Layout::Rows)?) };
            Ok((embedding, output))
        };
        let (ends, layers) = std::thread::scope(|scope| {
            let ends = scope.spawn(ends);
            let layers = layers(gpu, files, &config, progress);
            (ends.join(), layers)
        });
        let (embedding, output) =
            ends.map_err(|_| Error::Internal("the upload of the embedding panicked".into()))??;
        let model = with_ends(gpu, files, config, embedding, output, layers?)?;
        gpu.wait()?;
        progress(1.0)?;
        Ok(model)
    }

    /// Reads and uploads every tensor, one after another; `progress` as in `upload`.
    ///
    /// # Errors
    /// Those of `upload`, and of reading the file.
    #[cfg(target_arch = "wasm32")]
    pub async fn fetch(
        gpu: &Gpu,
        files: &ModelFiles,
        progress: &mut dyn FnMut(f32) -> Result<()>,
    ) -> Result<ModelWeights> {
        let config = files.config.clone();
        let held = files.hold(&[TensorRole::TokenEmbedding]).await?;
        let embedding = weight(gpu, &held, TensorRole::TokenEmbedding, Layout::Rows)?;
        let held = files.hold(&[TensorRole::Output]).await?;
        let output = match config.tie_word_embeddings {
            true => None,
            false => Some(weight(gpu, &held, TensorRole::Output, Layout::Rows)?),
        };
        let mut layers = Vec::new();
        for index in 0..config.num_hidden_layers {
            // Where norms follow their blocks, the one in front of this layer is the one before's.
            let before = index.checked_sub(1).into_iter().flat_map(|before| norm_roles(before, true));
            let own = LayerTensor::ALL.map(|tensor| TensorRole::Layer(index, tensor));
            let held = files.hold(&own.into_iter().chain(before).collect::<Vec<TensorRole>>()).await?;
            layers.push(layer(gpu, &held, &config.blocks, index)?);
            gpu.idle().await?;
            progress((index + 1) as f32 / config.num_hidden_layers as f32)?;
        }
        let last = norm_roles(config.num_hidden_layers - 1, true);
        let held = files.hold(&ENDS.into_iter().chain(last).collect::<Vec<TensorRole>>()).await?;
        with_ends(gpu, &held, config, embedding, output, layers)
    }

    /// The output head.
    pub fn head(&self) -> &Weight {
        self.output.as_ref().unwrap_or(&self.embedding)
    }

    /// Cosines and sines of the rotary embedding for `positions` positions, to fetch from.
    ///
    /// # Errors
    /// Those of [`Gpu::fetched`].
    pub fn turns(&self, gpu: &Gpu, positions: usize) -> Result<Buffer> {
        gpu.fetched("rope table", bytemuck::cast_slice(&rope_append::table(&self.frequencies, positions)), 4)
    }

    /// How rope pairs the elements of a head, with a table that [`ModelWeights::turns`] made. What a layer does beside that
    /// adds [`LayerWeights::turns`].
    pub fn rope<'a>(&self, table: &'a Buffer) -> Turns<'a> {
        let adjacent = self.config.rope_layout == RopeLayout::Adjacent;
        let eps = self.config.rms_norm_eps;
        Turns { table, head_dim: self.config.head_dim, adjacent, bias: None, norms: None, eps, no_rope: false }
    }
}

/// What is in front of the layers and behind them, beside the embedding and the head.
#[cfg(target_arch = "wasm32")]
const ENDS: [TensorRole; 5] = [
    TensorRole::PositionEmbedding,
    TensorRole::ProjectIn,
    TensorRole::OutputNorm,
    TensorRole::OutputNormBias,
    TensorRole::ProjectOut,
];

/// The whole model, with what is in front of the layers and behind them.
fn with_ends(
    gpu: &Gpu,
    files: &impl Tensors,
    config: ModelConfig,
    embedding: Weight,
    output: Option<Weight>,
    layers: Vec<LayerWeights>,
) -> Result<ModelWeights> {
    let projection = |role| weight(gpu, files, role, Layout::Rows);
    let projects = config.word_embed_proj_dim.is_some();
    let output_norm = match config.blocks.norms {
        Norms::Rms => Norm::Rms(gpu.upload("norm", &vector(files, TensorRole::OutputNorm)?)?),
        Norms::LayerBefore => {
            layer_norm(gpu, files, [TensorRole::OutputNorm, TensorRole::OutputNormBias], Place::Before)?
        }
        // Of the last block. The rows it is asked for may come twice: the residual stream stays.
        Norms::LayerBehind => layer_norm(gpu, files, norm_roles(config.num_hidden_layers - 1, true), Place::Before)?,
    };
    Ok(ModelWeights {
        embedding,
        positions: match config.position_offset {
            Some(_) => Some(gpu.upload("positions", &vector(files, TensorRole::PositionEmbedding)?)?),
            None => None,
        },
        project_in: if projects { Some(projection(TensorRole::ProjectIn)?) } else { None },
        project_out: if projects { Some(projection(TensorRole::ProjectOut)?) } else { None },
        output,
        output_norm,
        layers,
        frequencies: config.rope_frequencies(),
        config,
    })
}

/// All layers: laying weights out keeps a processor busy longer than reading them, so every processor takes some.
#[cfg(not(target_arch = "wasm32"))]
fn layers(
    gpu: &Gpu,
    files: &ModelFiles,
    config: &ModelConfig,
    progress: &mut dyn FnMut(f32) -> Result<()>,
) -> Result<Vec<LayerWeights>> {
    let count = config.num_hidden_layers;
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(count);
    let (sender, made) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    // The receiver is gone when the upload has ended early.
                    if index >= count || sender.send((index, layer(gpu, files, &config.blocks, index))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut layers: Vec<Option<LayerWeights>> = (0..count).map(|_| None).collect();
        let mut failed: Option<(usize, Error)> = None;
        for (done, (index, layer)) in made.into_iter().enumerate() {
            match layer {
                Ok(layer) => layers[index] = Some(layer),
                Err(error) => {
                    // Layers before this one are under way: of several that fail, the first is told.
                    next.store(count, Ordering::Relaxed);
                    if failed.as_ref().is_none_or(|(first, _)| index < *first) {
                        failed = Some((index, error));
                    }
                }
            }
            progress((done + 1) as f32 / (count + 1) as f32)?;
        }
        if let Some((_, error)) = failed {
            return Err(error);
        }
        let whole: Option<Vec<LayerWeights>> = layers.into_iter().collect();
        whole.ok_or_else(|| Error::Internal("a layer was not uploaded".into()))
    })
}

fn layer(gpu: &Gpu, files: &impl Tensors, blocks: &Blocks, index: usize) -> Result<LayerWeights> {
    let role = |tensor| TensorRole::Layer(index, tensor);
    let tensor = |tensor| files.tensor(role(tensor)).and_then(host);
    let columns = |tensor| weight(gpu, files, role(tensor), Layout::Columns);
    let (o, down) = (columns(LayerTensor::O)?, columns(LayerTensor::Down)?);
    let o_power = gpu.zeros("o power", o.cols)?;
    let down_power = gpu.zeros("down power", down.cols)?;
    let mut rec = gpu.record();
    column_power::record(&mut rec, &o, Degree::Four, &o_power)?;
    column_power::record(&mut rec, &down, Degree::Four, &down_power)?;
    rec.submit()?;
    // Vectors behind one another in one buffer.
    let joined = |name: &str, there: bool, tensors: &[LayerTensor]| -> Result<Option<Buffer>> {
        if !there {
            return Ok(None);
        }
        let parts = tensors.iter().map(|&tensor| vector(files, role(tensor))).collect::<Result<Vec<Vec<f32>>>>()?;
        gpu.upload(name, &parts.concat()).map(Some)
    };
    let mlp = match blocks.mlp {
        MlpKind::SwiGlu => {
            let (gate, up) = (files.tensor(role(LayerTensor::Gate))?, files.tensor(role(LayerTensor::Up))?);
            let together = shard_rows(gpu, gate, Layout::Rows)?.min(shard_rows(gpu, up, Layout::Rows)?);
            let cut = |view| Weight::upload(gpu, host(view)?, Layout::Rows, together);
            Mlp::SwiGlu { gate: cut(gate)?, up: cut(up)? }
        }
        MlpKind::Relu => Mlp::Relu {
            up: weight(gpu, files, role(LayerTensor::Up), Layout::Rows)?,
            bias: gpu.upload("up bias", &vector(files, role(LayerTensor::UpBias))?)?,
        },
    };
    Ok(LayerWeights {
        attention_norm: norm(gpu, files, blocks.norms, index, false)?,
        qkv: Weight::stack(
            gpu,
            &[tensor(LayerTensor::Q)?, tensor(LayerTensor::K)?, tensor(LayerTensor::V)?],
            Layout::Rows,
        )?,
        qkv_bias: joined("biases", blocks.qkv_bias, &[LayerTensor::QBias, LayerTensor::KBias, LayerTensor::VBias])?,
        qk_norm: joined("head norms", blocks.qk_norm, &[LayerTensor::QNorm, LayerTensor::KNorm])?,
        has_rope: blocks.has_rope(index),
        sliding_window: blocks.sliding_window_of(index),
        o,
        o_bias: joined("o bias", blocks.output_bias, &[LayerTensor::OBias])?,
        o_power,
        mlp_norm: norm(gpu, files, blocks.norms, index, true)?,
        mlp,
        down,
        down_bias: joined("down bias", blocks.output_bias, &[LayerTensor::DownBias])?,
        down_power,
    })
}

fn host(view: TensorView<'_>) -> Result<HostTensor<'_>> {
    let format = WeightFormat::by_name(view.kind.name()).ok_or_else(|| Error::Unsupported {
        what: "tensor type",
        name: format!("{} of `{}`", view.kind.name(), view.name),
        supported: WeightFormat::ALL.map(WeightFormat::name).join(", "),
    })?;
    Ok(HostTensor { name: view.name, format, rows: view.rows, cols: view.cols, bytes: view.bytes })
}

fn shard_rows(gpu: &Gpu, view: TensorView<'_>, layout: Layout) -> Result<usize> {
    Ok(rows_per_shard(gpu, host(view)?.format, layout, view.cols))
}

fn weight(gpu: &Gpu, files: &impl Tensors, role: TensorRole, layout: Layout) -> Result<Weight> {
    let view = files.tensor(role)?;
    Weight::upload(gpu, host(view)?, layout, shard_rows(gpu, view, layout)?)
}

fn vector(files: &impl Tensors, role: TensorRole) -> Result<Vec<f32>> {
    let view = files.tensor(role)?;
    let tensor = host(view)?;
    if let Some((index, value)) = tensor.format.first_not_finite(tensor.bytes) {
        return Err(Error::TensorNotFinite { name: view.name.to_string(), index, value });
    }
    Ok(tensor.format.dequantise(tensor.bytes))
}

/// The norm in front of a layer's half: its own, or where norms follow, that of the half before, if there is one.
fn norm(gpu: &Gpu, files: &impl Tensors, norms: Norms, layer: usize, of_mlp: bool) -> Result<Norm> {
    match (norms, layer, of_mlp) {
        (Norms::Rms, ..) => Ok(Norm::Rms(gpu.upload("norm", &vector(files, norm_roles(layer, of_mlp)[0])?)?)),
        (Norms::LayerBefore, ..) => layer_norm(gpu, files, norm_roles(layer, of_mlp), Place::Before),
        (Norms::LayerBehind, 0, false) => Ok(Norm::Layer(gpu.zeros("no norm", 4)?, Place::Nowhere)),
        (Norms::LayerBehind, _, false) => layer_norm(gpu, files, norm_roles(layer - 1, true), Place::Behind),
        (Norms::LayerBehind, _, true) => layer_norm(gpu, files, norm_roles(layer, false), Place::Behind),
    }
}

/// Scale and shift of the norm of a layer's half.
fn norm_roles(layer: usize, of_mlp: bool) -> [TensorRole; 2] {
    let tensors = match of_mlp {
        false => [LayerTensor::AttentionNorm, LayerTensor::AttentionNormBias],
        true => [LayerTensor::MlpNorm, LayerTensor::MlpNormBias],
    };
    tensors.map(|tensor| TensorRole::Layer(layer, tensor))
}

fn layer_norm(gpu: &Gpu, files: &impl Tensors, roles: [TensorRole; 2], place: Place) -> Result<Norm> {
    let [scale, shift] = [vector(files, roles[0])?, vector(files, roles[1])?];
    Ok(Norm::Layer(gpu.upload("norm", &[scale, shift].concat())?, place))
}

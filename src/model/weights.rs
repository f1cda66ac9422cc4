//! A model's weights on the GPU, uploaded tensor by tensor out of the mapped files: the host never holds a second copy.

use super::{LayerTensor, ModelFiles, TensorRole, TensorView};
use crate::config::{ModelConfig, RopeLayout};
use crate::error::{Error, Result};
use crate::format::{HostTensor, Layout, Weight, WeightFormat, rows_per_shard};
use crate::gpu::{Buffer, Gpu};
use crate::kernels::column_power::{self, Degree};
use crate::kernels::rope;

/// The weights of one transformer layer. `H` hidden, `A` heads, `K` kv heads, `d` head size, `C` channels.
pub struct LayerWeights {
    /// `[H]`.
    pub attention_norm: Buffer,
    /// `[A*d, H]`, by rows.
    pub q: Weight,
    /// `[K*d, H]`, by rows.
    pub k: Weight,
    /// `[K*d, H]`, by rows.
    pub v: Weight,
    /// `[H, A*d]`, by columns.
    pub o: Weight,
    /// `[A*d]`: the constant factor of each column's score.
    pub o_power: Buffer,
    /// `[H]`.
    pub mlp_norm: Buffer,
    /// `[C, H]`, by rows.
    pub gate: Weight,
    /// `[C, H]`, by rows, cut like `gate`.
    pub up: Weight,
    /// `[H, C]`, by columns.
    pub down: Weight,
    /// `[C]`: the constant factor of each channel's score.
    pub down_power: Buffer,
}

/// A whole model on the GPU.
pub struct ModelWeights {
    /// Its shape.
    pub config: ModelConfig,
    /// `[vocab, H]`, by rows.
    pub embedding: Weight,
    /// `[vocab, H]`, by rows; `None` = the embedding.
    pub output: Option<Weight>,
    /// `[H]`.
    pub output_norm: Buffer,
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
    pub fn upload(gpu: &Gpu, files: &ModelFiles, progress: &mut dyn FnMut(f32) -> Result<()>) -> Result<ModelWeights> {
        let config = files.config.clone();
        let embedding = weight(gpu, files, TensorRole::TokenEmbedding, Layout::Rows)?;
        let output = match config.tie_word_embeddings {
            true => None,
            false => Some(weight(gpu, files, TensorRole::Output, Layout::Rows)?),
        };
        let output_norm = norm(gpu, files, TensorRole::OutputNorm)?;
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            progress((index + 1) as f32 / (config.num_hidden_layers + 1) as f32)?;
            layers.push(layer(gpu, files, index)?);
        }
        gpu.wait()?;
        progress(1.0)?;
        let frequencies = config.rope_frequencies();
        Ok(ModelWeights { config, embedding, output, output_norm, layers, frequencies })
    }

    /// The output head.
    pub fn head(&self) -> &Weight {
        self.output.as_ref().unwrap_or(&self.embedding)
    }

    /// Cosines and sines of the rotary embedding for `positions` positions.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`].
    pub fn turns(&self, gpu: &Gpu, positions: usize) -> Result<Buffer> {
        gpu.upload("rope table", &rope::table(&self.frequencies, positions))
    }

    /// How rope pairs the elements of a head, with a table that [`ModelWeights::turns`] made.
    pub fn rope<'a>(&self, table: &'a Buffer) -> rope::Turns<'a> {
        let adjacent = self.config.rope_layout == RopeLayout::Adjacent;
        rope::Turns { table, head_dim: self.config.head_dim, adjacent }
    }
}

fn layer(gpu: &Gpu, files: &ModelFiles, index: usize) -> Result<LayerWeights> {
    let role = |tensor| TensorRole::Layer(index, tensor);
    let rows = |tensor| weight(gpu, files, role(tensor), Layout::Rows);
    let columns = |tensor| weight(gpu, files, role(tensor), Layout::Columns);
    let (o, down) = (columns(LayerTensor::O)?, columns(LayerTensor::Down)?);
    let o_power = gpu.zeros("o power", o.cols)?;
    let down_power = gpu.zeros("down power", down.cols)?;
    let mut rec = gpu.record();
    column_power::record(&mut rec, &o, Degree::Four, &o_power)?;
    column_power::record(&mut rec, &down, Degree::Four, &down_power)?;
    rec.submit()?;
    let (gate, up) = (files.tensor(role(LayerTensor::Gate))?, files.tensor(role(LayerTensor::Up))?);
    let together = shard_rows(gpu, gate, Layout::Rows)?.min(shard_rows(gpu, up, Layout::Rows)?);
    Ok(LayerWeights {
        attention_norm: norm(gpu, files, role(LayerTensor::AttentionNorm))?,
        q: rows(LayerTensor::Q)?,
        k: rows(LayerTensor::K)?,
        v: rows(LayerTensor::V)?,
        o,
        o_power,
        mlp_norm: norm(gpu, files, role(LayerTensor::MlpNorm))?,
        gate: Weight::upload(gpu, host(gate)?, Layout::Rows, together)?,
        up: Weight::upload(gpu, host(up)?, Layout::Rows, together)?,
        down,
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

fn weight(gpu: &Gpu, files: &ModelFiles, role: TensorRole, layout: Layout) -> Result<Weight> {
    let view = files.tensor(role)?;
    Weight::upload(gpu, host(view)?, layout, shard_rows(gpu, view, layout)?)
}

fn vector(files: &ModelFiles, role: TensorRole) -> Result<Vec<f32>> {
    let view = files.tensor(role)?;
    let tensor = host(view)?;
    if let Some((index, value)) = tensor.format.first_not_finite(tensor.bytes) {
        return Err(Error::TensorNotFinite { name: view.name.to_string(), index, value });
    }
    Ok(tensor.format.dequantise(tensor.bytes))
}

fn norm(gpu: &Gpu, files: &ModelFiles, role: TensorRole) -> Result<Buffer> {
    gpu.upload("norm", &vector(files, role)?)
}

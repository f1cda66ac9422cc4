//! A model of random weights, made on the device: a real shape without its file.

use super::{LayerWeights, Mlp, ModelWeights, Norm};
use crate::config::{MlpKind, ModelConfig, Norms};
use crate::error::{Error, Result};
use crate::format::{Layout, Weight, WeightFormat, rows_per_shard};
use crate::gpu::{Buffer, Gpu};
use crate::kernels::column_power::{self, Degree};
use crate::kernels::layer_norm::Place;

/// Draws one tensor after another.
struct Draw<'g> {
    gpu: &'g Gpu,
    format: WeightFormat,
    tensors: u32,
}

impl Draw<'_> {
    fn weight(&mut self, name: &str, layout: Layout, rows: usize, cols: usize) -> Result<Weight> {
        self.tensors += 1;
        let at_once = rows_per_shard(self.gpu, self.format, layout, cols);
        // Seeds far apart: a shard takes two.
        Weight::random(self.gpu, name, (self.format, layout), (rows, cols), at_once, self.tensors << 12)
    }

    fn ones(&self, len: usize) -> Result<Buffer> {
        self.gpu.upload("norm", &vec![1.0f32; len])
    }

    fn bias(&self, there: bool, len: usize) -> Result<Option<Buffer>> {
        if there { self.gpu.zeros("biases", len).map(Some) } else { Ok(None) }
    }

    /// A norm that changes no scale; where norms follow their blocks, there is none before the first.
    fn norm(&self, config: &ModelConfig, first: bool) -> Result<Norm> {
        let place = match (config.blocks.norms, first) {
            (Norms::Rms, _) => return Ok(Norm::Rms(self.ones(config.hidden_size)?)),
            (Norms::LayerBefore, _) => Place::Before,
            (Norms::LayerBehind, true) => Place::Nowhere,
            (Norms::LayerBehind, false) => Place::Behind,
        };
        let values = [vec![1.0f32; config.hidden_size], vec![0.0; config.hidden_size]].concat();
        Ok(Norm::Layer(self.gpu.upload("norm", &values)?, place))
    }

    fn layer(&mut self, config: &ModelConfig, index: usize) -> Result<LayerWeights> {
        let (hidden, channels, blocks) = (config.hidden_size, config.intermediate_size, &config.blocks);
        let (width, kv) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let o = self.weight("o", Layout::Columns, hidden, width)?;
        let down = self.weight("down", Layout::Columns, hidden, channels)?;
        let (o_power, down_power) = (self.gpu.zeros("o power", width)?, self.gpu.zeros("down power", channels)?);
        let mut rec = self.gpu.record();
        column_power::record(&mut rec, &o, Degree::Four, &o_power)?;
        column_power::record(&mut rec, &down, Degree::Four, &down_power)?;
        rec.submit()?;
        Ok(LayerWeights {
            attention_norm: self.norm(config, index == 0)?,
            qkv: self.weight("q, k and v", Layout::Rows, width + 2 * kv, hidden)?,
            qkv_bias: self.bias(blocks.qkv_bias, width + 2 * kv)?,
            qk_norm: if blocks.qk_norm { Some(self.ones(2 * config.head_dim)?) } else { None },
            has_rope: blocks.has_rope(index),
            sliding_window: blocks.sliding_window_of(index),
            o,
            o_bias: self.bias(blocks.output_bias, hidden)?,
            o_power,
            mlp_norm: self.norm(config, false)?,
            mlp: match blocks.mlp {
                MlpKind::SwiGlu => Mlp::SwiGlu {
                    gate: self.weight("gate", Layout::Rows, channels, hidden)?,
                    up: self.weight("up", Layout::Rows, channels, hidden)?,
                },
                MlpKind::Relu => Mlp::Relu {
                    up: self.weight("up", Layout::Rows, channels, hidden)?,
                    bias: self.gpu.zeros("biases", channels)?,
                },
            },
            down_bias: self.bias(blocks.output_bias, hidden)?,
            down,
            down_power,
        })
    }
}

/// Refuses a format whose blocks do not fill the rows of every matrix.
fn check_blocks(config: &ModelConfig, format: WeightFormat) -> Result<()> {
    let widths = [
        ("hidden size", config.hidden_size),
        ("width of attention", config.num_attention_heads * config.head_dim),
        ("number of MLP channels", config.intermediate_size),
        ("width of the embedding", config.embedding_width()),
    ];
    let fits = |format: WeightFormat| widths.iter().all(|(_, width)| width.is_multiple_of(format.block().0));
    let block = format.block().0;
    let Some((what, width)) = widths.iter().find(|(_, width)| !width.is_multiple_of(block)) else { return Ok(()) };
    let others: Vec<&str> =
        WeightFormat::ALL.into_iter().filter(|&other| fits(other)).map(WeightFormat::name).collect();
    Err(Error::Setting(format!(
        "{} has blocks of {block} values, which do not fill this shape's {what} of {width}; take one of {}",
        format.name(),
        others.join(", ")
    )))
}

impl ModelWeights {
    /// Makes a model of random weights, all matrices in one format; `progress` hears the share done, 0 to 1, and ends the
    /// making by an error.
    ///
    /// # Errors
    /// [`Error::Setting`] for a format whose blocks do not fill the matrices' rows, and those of [`ModelConfig::validate`] and of
    /// [`Weight::random`].
    pub fn random(
        gpu: &Gpu,
        config: &ModelConfig,
        format: WeightFormat,
        progress: &mut dyn FnMut(f32) -> Result<()>,
    ) -> Result<ModelWeights> {
        config.validate()?;
        check_blocks(config, format)?;
        let mut draw = Draw { gpu, format, tensors: 0 };
        let (vocab, hidden, embedded) = (config.vocab_size, config.hidden_size, config.embedding_width());
        let embedding = draw.weight("embedding", Layout::Rows, vocab, embedded)?;
        let output = match config.tie_word_embeddings {
            true => None,
            false => Some(draw.weight("output", Layout::Rows, vocab, embedded)?),
        };
        let (mut project_in, mut project_out) = (None, None);
        if config.word_embed_proj_dim.is_some() {
            project_in = Some(draw.weight("project in", Layout::Rows, hidden, embedded)?);
            project_out = Some(draw.weight("project out", Layout::Rows, embedded, hidden)?);
        }
        let positions = match config.position_offset {
            Some(offset) => Some(gpu.zeros("positions", (config.max_position_embeddings + offset) * hidden)?),
            None => None,
        };
        let output_norm = match draw.norm(config, false)? {
            Norm::Layer(values, _) => Norm::Layer(values, Place::Before),
            rms => rms,
        };
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            layers.push(draw.layer(config, index)?);
            gpu.wait()?;
            progress((index + 1) as f32 / config.num_hidden_layers as f32)?;
        }
        let frequencies = config.rope_frequencies();
        Ok(ModelWeights {
            config: config.clone(),
            embedding,
            positions,
            project_in,
            project_out,
            output,
            output_norm,
            layers,
            frequencies,
        })
    }

    /// Bytes of the matrices of such a model, which is what it needs of the device's memory but for some norms.
    pub fn random_bytes(config: &ModelConfig, format: WeightFormat) -> u64 {
        let (hidden, channels) = (config.hidden_size, config.intermediate_size);
        let (width, kv) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let rows = |rows: usize| format.bytes(Layout::Rows, rows, hidden);
        let columns = |inputs: usize| format.bytes(Layout::Columns, hidden, inputs);
        let first_half = config.blocks.mlp.matrices() * channels;
        let layer = rows(width + 2 * kv + first_half) + columns(width) + columns(channels);
        let tables = if config.tie_word_embeddings { 1 } else { 2 };
        let embedded = config.embedding_width();
        let mut ends = tables * format.bytes(Layout::Rows, config.vocab_size, embedded);
        if config.word_embed_proj_dim.is_some() {
            ends += format.bytes(Layout::Rows, hidden, embedded) + rows(embedded);
        }
        if let Some(offset) = config.position_offset {
            ends += 4 * ((config.max_position_embeddings + offset) * hidden) as u64;
        }
        config.num_hidden_layers as u64 * layer + ends
    }
}

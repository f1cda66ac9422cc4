//! The activations of one pass. A pass over a window keeps some of them by layer and row; any other reuses one buffer.

use crate::config::ModelConfig;
use crate::error::Result;
use crate::gpu::{Buffer, Contents, Gpu};
use crate::kernels::Rows;
use crate::kernels::matmul_columns::{most_parts, stride};
use crate::prune::Window;

/// Room for a pass over `tokens` tokens.
pub(super) struct Workspace {
    pub residual: Buffer,         // [tokens][H]
    pub norms: Buffer,            // [tokens]
    pub qkv: Buffer,              // [tokens][(A + 2K)*d]
    pub added: Buffer,            // [parts][tokens][H]: what o or down add to the residual stream
    pub embedded: Option<Buffer>, // [tokens][E], where embeddings are widened
    normed: Buffer,               // [tokens][H]
    mixed: Buffer,                // [tokens][A*d]
    active: Buffer,               // [tokens][stride(C)]
    /// Where states are kept for a renewal.
    pub window: Option<Window>,
    /// The row of the next token there; `None` = nobody will ask for its states.
    pub row: Option<u32>,
}

impl Workspace {
    /// For a pass over a prompt.
    pub fn new(gpu: &Gpu, model: &ModelConfig, tokens: usize) -> Result<Workspace> {
        Workspace::with(gpu, model, tokens, &|label, values| gpu.zeros(label, values))
    }

    /// For passes of a token, one after another: what matmuls fetch has mirrors, which the kernels keep that write it, for copies would cost
    /// as much as norms do.
    pub fn lasting(gpu: &Gpu, model: &ModelConfig, samples: usize) -> Result<Workspace> {
        Workspace::with(gpu, model, samples, &|label, values| gpu.mirrored(label, Contents::Zeroed(4 * values as u64)))
    }

    fn with(
        gpu: &Gpu,
        model: &ModelConfig,
        tokens: usize,
        fetched: &dyn Fn(&str, usize) -> Result<Buffer>,
    ) -> Result<Workspace> {
        let (width, kv) = (model.num_attention_heads * model.head_dim, model.num_key_value_heads * model.head_dim);
        Ok(Workspace {
            residual: gpu.zeros("residual stream", tokens * model.hidden_size)?,
            norms: gpu.zeros("norms", tokens)?,
            qkv: gpu.zeros("q, k and v", tokens * (width + 2 * kv))?,
            added: gpu.zeros("added", most_parts(gpu, tokens) * model.hidden_size)?,
            embedded: match model.word_embed_proj_dim {
                Some(width) => Some(gpu.zeros("embedded", tokens * width)?),
                None => None,
            },
            normed: fetched("normed state", tokens * model.hidden_size)?,
            mixed: fetched("mixed values", tokens * width)?,
            active: fetched("activations", tokens * stride(model.intermediate_size))?,
            window: None,
            row: None,
        })
    }

    fn rows<'a>(&'a self, kept: impl Fn(&'a Window) -> &'a Buffer, shared: &'a Buffer) -> Rows<'a> {
        match self.window.as_ref().zip(self.row) {
            Some((window, row)) => Rows { buffer: kept(window), first: row },
            None => shared.into(),
        }
    }

    pub fn normed_attention(&self, layer: usize) -> Rows<'_> {
        self.rows(|window| &window.normed_attention[layer], &self.normed)
    }

    pub fn mixed(&self, layer: usize) -> Rows<'_> {
        self.rows(|window| &window.mixed[layer], &self.mixed)
    }

    pub fn normed_mlp(&self, layer: usize) -> Rows<'_> {
        self.rows(|window| &window.normed_mlp[layer], &self.normed)
    }

    pub fn active(&self, layer: usize) -> Rows<'_> {
        self.rows(|window| &window.active[layer], &self.active)
    }
}

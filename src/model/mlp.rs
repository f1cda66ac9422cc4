//! The first half of an MLP, whatever its kind: what its channels are before down takes them.

use crate::error::Result;
use crate::format::Weight;
use crate::gpu::{Buffer, Recorder};
use crate::kernels::{Kept, Rows, fc1, gate_up};

/// Its weights. `C` channels.
pub enum Mlp {
    /// `silu(gate x) * up x`.
    SwiGlu {
        /// `[C, H]`, by rows.
        gate: Weight,
        /// `[C, H]`, by rows, cut like `gate`.
        up: Weight,
    },
    /// `relu(up x + bias)`.
    Relu {
        /// `[C, H]`, by rows.
        up: Weight,
        /// `[C]`.
        bias: Buffer,
    },
}

impl Mlp {
    /// Records the channels of `tokens` rows of `x`, those that are kept: see [`gate_up`] and [`fc1`].
    ///
    /// # Errors
    /// Those of [`Recorder::dispatch`].
    pub fn record(
        &self,
        rec: &mut Recorder<'_>,
        x: Rows<'_>,
        kept: Option<Kept<'_>>,
        y: Rows<'_>,
        tokens: usize,
    ) -> Result<()> {
        match self {
            Mlp::SwiGlu { gate, up } => gate_up::record(rec, x, (gate, up), kept, y, tokens),
            Mlp::Relu { up, bias } => fc1::record(rec, x, (up, bias), kept, y, tokens),
        }
    }

    /// Its matrices.
    pub fn matrices(&self) -> Vec<&Weight> {
        match self {
            Mlp::SwiGlu { gate, up } => vec![gate, up],
            Mlp::Relu { up, .. } => vec![up],
        }
    }

    /// Bytes of its matrices.
    pub fn bytes(&self) -> u64 {
        self.matrices().iter().map(|weight| weight.bytes()).sum()
    }

    /// The kernel's name.
    pub fn kernel(&self) -> &'static str {
        match self {
            Mlp::SwiGlu { .. } => "gate_up",
            Mlp::Relu { .. } => "fc1",
        }
    }
}

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

    /// The shape of its product, for people: tokens, matrices where there is more than one, channels, inputs.
    pub fn shape(&self, tokens: usize, channels: usize) -> String {
        let matrices = self.matrices();
        let inputs = matrices[0].cols;
        match matrices.len() {
            1 => format!("{tokens} x {channels} x {inputs}"),
            count => format!("{tokens} x {count} x {channels} x {inputs}"),
        }
    }

    /// The kernel's name.
    pub fn kernel(&self) -> &'static str {
        match self {
            Mlp::SwiGlu { .. } => "gate_up",
            Mlp::Relu { .. } => "fc1",
        }
    }
}

//! A norm of the residual stream, whatever its kind.

use crate::error::{Error, Result};
use crate::gpu::{Buffer, Recorder};
use crate::kernels::layer_norm::{self, Place};
use crate::kernels::{Rows, rms_norm};

/// A norm on the GPU.
pub enum Norm {
    /// An RMS norm: its scale, `[H]`.
    Rms(Buffer),
    /// A layer norm: its scale and its shift, `[2][H]`, and where it stands.
    Layer(Buffer, Place),
}

/// What is added to the residual stream before it is normed.
#[derive(Clone, Copy, Default)]
pub struct Added<'a> {
    /// `[parts][tokens][H]`, and how many parts.
    pub parts: Option<(&'a Buffer, usize)>,
    /// `[H]`.
    pub bias: Option<&'a Buffer>,
}

impl Norm {
    /// Records `x += added` and `y = norm(x)`, and each row's length: see [`rms_norm`] and [`layer_norm`].
    ///
    /// # Errors
    /// Those of [`Recorder::dispatch`].
    pub fn record(
        &self,
        rec: &mut Recorder<'_>,
        x: Rows<'_>,
        added: Added<'_>,
        y: Rows<'_>,
        norms: &Buffer,
        shape: (usize, usize, f32),
    ) -> Result<()> {
        match (self, added.bias) {
            (Norm::Rms(scale), None) => rms_norm::record(rec, x, added.parts, scale, y, norms, shape),
            (Norm::Rms(_), Some(_)) => Err(Error::Internal("a bias in front of an RMS norm".into())),
            (Norm::Layer(norm, place), bias) => {
                layer_norm::record(rec, x, (added.parts, bias), (norm, *place), y, norms, shape)
            }
        }
    }

    /// The kernel's name.
    pub fn kernel(&self) -> &'static str {
        match self {
            Norm::Rms(_) => "rms_norm",
            Norm::Layer(..) => "layer_norm",
        }
    }
}

//! `y[t, j] = relu(x[t] . W[row(j)] + b[row(j)])`: the first half of an OPT MLP. Pruning gathers rows, and their biases.

use super::matmul_rows::{self, ByRows};
use super::{Kept, Rows, matmul_columns};
use crate::error::Result;
use crate::format::Weight;
use crate::gpu::{Access, Buffer, Kernel, Recorder, ShaderSource};

macro_rules! fc1 {
    ($(#[$doc:meta])* $constant:ident = $name:literal) => {
        $(#[$doc])*
        pub static $constant: Kernel = Kernel {
            source: ShaderSource { name: $name, text: include_str!(concat!("../../shaders/", $name, ".wgsl")) },
            bindings: &[
                Access::Fetch,
                Access::Fetch,
                Access::Fetch,
                Access::Fetch,
                Access::Write,
                Access::Read,
                Access::Store,
            ],
            params: matmul_rows::KERNEL.params,
        };
    };
}

fc1! {
    /// The op: [`matmul_rows`]'s parameters, and a bias.
    KERNEL = "fc1"
}

fc1! {
    /// The op for one or two tokens.
    FEW = "fc1_few"
}

fc1! {
    /// The op for many tokens on hardware.
    TILED = "fc1_tiled"
}

fc1! {
    /// The op for many tokens on matrix units.
    MATRIX = "fc1_matrix"
}

/// Records `y = relu(x W^T + b)` for `tokens` rows, with `bias` `[rows of the weight]`; a row of `y` holds
/// [`matmul_columns::stride`] values, one per kept channel first.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    x: Rows<'_>,
    (weight, bias): (&Weight, &Buffer),
    kept: Option<Kept<'_>>,
    y: Rows<'_>,
    tokens: usize,
) -> Result<()> {
    let stride = matmul_columns::stride(matmul_rows::outputs(weight, kept));
    let kernels = ByRows { few: &FEW, plain: &KERNEL, tiled: &TILED, matrix: &MATRIX };
    matmul_rows::dispatch(rec, kernels, x, (weight, Some(bias)), kept, (y, stride), tokens)
}

/// The naive CPU twin: `x [tokens, cols]`, `w [rows, cols]`, `bias [rows]`, kept channels in order.
pub fn twin(x: &[f32], w: &[f32], bias: &[f32], cols: usize, rows: &[usize]) -> Vec<f32> {
    let products = matmul_rows::twin(x, w, cols, rows);
    products.iter().zip(rows.iter().cycle()).map(|(product, &row)| (product + bias[row]).max(0.0)).collect()
}

//! The loss of a sample at the output head, and what it asks of the last residual stream.

use super::backward::no_gradient;
use crate::error::Result;
use crate::llama::{Head, failure};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};

/// Rows that the output head runs at once: logits and their gradients are the largest things there are.
pub(super) const HEAD_ROWS: usize = 128;

/// `-sum log p(id) / divisor` over the tokens from `first >= 1` on, in nats, and its gradient with respect to `state [T, H]`.
///
/// # Errors
/// [`crate::Error::Device`] when burn fails.
pub(super) fn score(
    head: &Head,
    state: Tensor<2>,
    (ids, first): (&[u32], usize),
    divisor: f32,
) -> Result<(f64, Tensor<2>)> {
    let ([tokens, hidden_size], device) = (state.dims(), state.device());
    // A token is judged by the state before it: nothing is asked of the first states, and nothing of the last.
    let nothing = |rows: usize| Tensor::<2>::zeros([rows, hidden_size], &device);
    let (mut loss, mut gradients) = (0.0, Vec::new());
    if first > 1 {
        gradients.push(nothing(first - 1));
    }
    for start in (first - 1..tokens - 1).step_by(HEAD_ROWS) {
        let rows = HEAD_ROWS.min(tokens - 1 - start);
        let x = Tensor::from_inner(state.clone().narrow(0, start, rows)).require_grad();
        let next: Vec<i32> = ids[start + 1..][..rows].iter().map(|&id| id as i32).collect();
        let next = Tensor::<2, Int>::from_data(TensorData::new(next, [rows, 1]), &device);
        let likelihoods = log_softmax(head.forward(x.clone()), 1).gather(1, next);
        let part = likelihoods.sum() / -divisor;
        loss += f64::from(part.clone().inner().try_into_scalar::<f32>().map_err(failure)?);
        gradients.push(x.grad(&part.backward()).ok_or_else(no_gradient)?);
    }
    gradients.push(nothing(1));
    Ok((loss, Tensor::cat(gradients, 0)))
}

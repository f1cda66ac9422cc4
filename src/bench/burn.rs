//! The same weights in burn, in the same rounds.

use super::{Peer, PeerRecord, Setup};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::model::ModelFiles;
use crate::peers::BurnLlama;
use std::time::Instant;

/// A dense model in burn. Its first turn tunes its kernels, which takes minutes on a software adapter.
pub struct Burn(BurnLlama);

impl Burn {
    /// Loads the model into burn, on the adapter of `gpu`.
    ///
    /// # Errors
    /// Those of [`BurnLlama::load`].
    pub fn load(files: &ModelFiles, gpu: &Gpu) -> Result<Burn> {
        Ok(Burn(BurnLlama::load(files, gpu)?))
    }
}

impl Peer for Burn {
    fn name(&self) -> &'static str {
        "burn"
    }

    fn turn(&mut self, setup: Setup, ids: &[u32], decode: usize) -> Result<[Option<f64>; 2]> {
        let model = &mut self.0;
        model.clear();
        let (prompt, answer) = ids.split_at(setup.prompt_tokens);
        let started = Instant::now();
        model.prefill(prompt)?;
        let prefill = prompt.len() as f64 / started.elapsed().as_secs_f64();
        let started = Instant::now();
        for &id in &answer[..decode] {
            model.step(id)?;
        }
        Ok([Some(prefill), (decode > 0).then(|| decode as f64 / started.elapsed().as_secs_f64())])
    }

    fn record(&self) -> PeerRecord {
        PeerRecord {
            name: self.name(),
            what: "burn 0.22 with burn-wgpu, a dense forward of its own tensor operations".into(),
            options: vec!["f32".into(), "autotune".into(), "fusion".into()],
            backends: "wgpu".into(),
            decodes_behind_the_prompt: true,
        }
    }
}

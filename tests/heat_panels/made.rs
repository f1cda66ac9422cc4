//! A choice as a model of 30 layers makes it, from arithmetic alone.

#[path = "../common/smollm2.rs"]
mod smollm2;

use eframe::egui;
use secateur::config::Method;
use secateur::protocol::{Cause, Heat, LayerHeat, UnitHeat};
use std::sync::Arc;

pub use smollm2::config as model;

/// A number in 0..1 that looks like chance and is none.
fn noise(seed: u64) -> f32 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 40) as f32 / (1u64 << 24) as f32
}

/// Scores that some units have in every probe, and some only in this one.
fn units(layer: usize, kind: u64, total: usize, kept: usize, probe: u64) -> UnitHeat {
    let score = |unit: usize| {
        let place = layer as u64 * 100_000 + unit as u64 + kind * 10_000_000;
        let wave = (unit as f32 / total as f32 * 40.0 + layer as f32 * 0.35).sin();
        let steady = noise(place) + noise(place ^ (1 << 60));
        let own = noise(place ^ ((probe + 1) << 40));
        (0.9 * wave + 1.6 * steady + 1.1 * own).exp() * 0.01
    };
    let scores: Vec<f32> = (0..total).map(score).collect();
    let mut order: Vec<u32> = (0..total as u32).collect();
    order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
    let mut kept = order[..kept].to_vec();
    kept.sort_unstable();
    let from_history = (0..total).map(|unit| noise(unit as u64 * 31 + layer as u64)).collect();
    let probed = (0..12).filter(|at| noise(u64::from(*at) * 97) > layer as f32 / 36.0).collect();
    UnitHeat { kept, scores, from_history, probed }
}

/// 30 layers of 9 heads and 1536 channels, the first three dense, at ratio 0.4.
pub fn heat(id: u64, index: usize) -> Arc<Heat> {
    let probe = id * 100 + index as u64;
    let pruned = |layer: usize| LayerHeat {
        heads: Some(units(layer, 1, 9, 6, probe)),
        channels: Some(units(layer, 2, 1536, 896, probe)),
    };
    let layers = (0..30).map(|layer| if layer < 3 { LayerHeat::default() } else { pruned(layer) }).collect();
    let cause = if index == 0 { Cause::Prompt } else { Cause::Renewal };
    let (at, method) = (40 + 16 * index, Method::Pp);
    Arc::new(Heat { id, index, cause, at, method, ratio: 0.4, heads: 9, channels: 1536, layers })
}

/// A window of this size around some panels.
pub fn harness<'a, S: 'a>(
    size: [f32; 2],
    theme: egui::Theme,
    state: S,
    mut draw: impl FnMut(&mut egui::Ui, &mut S) + 'a,
) -> egui_kittest::Harness<'a, S> {
    let draw = move |ui: &mut egui::Ui, state: &mut S| {
        egui::CentralPanel::default().show(ui, |ui| draw(ui, state));
    };
    egui_kittest::Harness::builder()
        .with_size(size)
        .with_theme(theme)
        .with_render_cursor(false)
        .build_ui_state(draw, state)
}

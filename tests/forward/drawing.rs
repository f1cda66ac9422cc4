//! Tokens drawn on the device, and passes that run ahead of them.

use super::{sequences, tolerance};
use crate::common::device::{Random, assert_close, files, load, open, tiny};
use crate::common::drawing::{by_draws, by_steps, samplers};
use crate::common::gguf_writer::GgufWriter;
use crate::common::reference::{Masks, Reference};
use crate::common::tiny_model::TinySpec;
use secateur::Error;
use secateur::config::SamplingConfig;
use secateur::engine::Engine;
use secateur::gpu::{GpuOptions, Tier};
use std::sync::Arc;

fn spec() -> TinySpec {
    TinySpec { seed: 41, ..TinySpec::default() }
}

/// Ways to draw from a vocabulary of some hundred.
fn ways() -> Vec<SamplingConfig> {
    let open = SamplingConfig { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 3, ..Default::default() };
    vec![
        SamplingConfig::default(),
        SamplingConfig { repetition_penalty: 1.5, repetition_window: 5, ..SamplingConfig::default() },
        open.clone(),
        SamplingConfig { temperature: 0.7, top_k: 40, top_p: 0.95, min_p: 0.05, ..open.clone() },
        SamplingConfig { top_p: 0.5, repetition_penalty: 2.0, repetition_window: 100, ..open.clone() },
        SamplingConfig { min_p: 0.5, temperature: 2.0, ..open },
    ]
}

#[test]
fn the_device_draws_what_the_sampler_draws() {
    for tier in [Tier::Software, Tier::Gpu] {
        let gpu = open(&GpuOptions { tier: Some(tier), ..GpuOptions::default() });
        let engine = load(&gpu, &files(&spec().gguf()));
        for (index, sampling) in ways().into_iter().enumerate() {
            let samples = 1 + index % 3;
            let prompts = Random(5).batch(&vec![7; samples], 288);
            let run = |device: bool| {
                let mut sequences = sequences(&engine, samples, 40);
                sequences.prefill(&prompts).unwrap();
                let mut samplers = samplers(&sampling, samples);
                match device {
                    true => by_draws(&mut sequences, &mut samplers, 30).0,
                    false => by_steps(&mut sequences, &mut samplers, 30),
                }
            };
            assert_eq!(run(true), run(false), "{tier:?}, {sampling:?}");
        }
    }
}

/// A pass that ran ahead leaves nothing behind when its token is not appended, whatever comes next.
#[test]
fn a_pass_that_ran_ahead_for_nothing_leaves_nothing_behind() {
    for tier in [Tier::Software, Tier::Gpu] {
        let gpu = open(&GpuOptions { tier: Some(tier), ..GpuOptions::default() });
        nothing_is_left_behind(&load(&gpu, &files(&spec().gguf())));
    }
}

fn nothing_is_left_behind(engine: &Arc<Engine>) {
    let prompt = Random(6).ids(9, 288);
    let start = |ahead: bool| {
        let mut sequence = sequences(engine, 1, 40);
        assert_eq!(pollster::block_on(sequence.prefill_part(&prompt, 0)).unwrap(), 9);
        let mut samplers = samplers(&SamplingConfig::default(), 1);
        let answer = match ahead {
            true => by_draws(&mut sequence, &mut samplers, 6).0,
            false => by_steps(&mut sequence, &mut samplers, 6),
        };
        (sequence, answer)
    };
    let (mut plain, answer) = start(false);
    let other = (answer[5].ids[0] + 1) % 288;
    let (mut ahead, same) = start(true);
    assert_eq!(same, answer);
    // Another token than the one that was drawn.
    assert_eq!(ahead.step(&[other]).unwrap(), plain.step(&[other]).unwrap());
    assert_eq!((ahead.lengths(), ahead.flops(), ahead.traffic()), (plain.lengths(), plain.flops(), plain.traffic()));
    // A cut, and another prompt.
    let ((mut plain, _), (mut ahead, _)) = (start(false), start(true));
    for sequence in [&mut plain, &mut ahead] {
        sequence.truncate(0, 12);
    }
    let more = vec![Random(7).ids(8, 288)];
    assert_eq!(ahead.prefill(&more).unwrap(), plain.prefill(&more).unwrap());
    assert_eq!((ahead.lengths(), ahead.flops(), ahead.traffic()), (plain.lengths(), plain.flops(), plain.traffic()));
    // Right behind it, and everything anew.
    let ((mut plain, _), (mut ahead, _)) = (start(false), start(true));
    assert_eq!(ahead.prefill(&more).unwrap(), plain.prefill(&more).unwrap());
    ahead.run_ahead().expect_err("nothing was drawn");
    ahead.clear().unwrap();
    assert_eq!(ahead.prefill(&more).unwrap(), sequences(engine, 1, 40).prefill(&more).unwrap());
}

#[test]
fn one_token_is_read_back_a_pass_and_the_end_of_the_context_is_seen() {
    let options = GpuOptions { tier: Some(Tier::Gpu), ..GpuOptions::default() };
    let (gpu, files) = (open(&options), files(&spec().gguf()));
    let (engine, reference) = (load(&gpu, &files), Reference::new(&files));
    let mut sequence = sequences(&engine, 1, 12);
    let prompt = Random(8).ids(8, 288);
    let before = gpu.readbacks();
    pollster::block_on(sequence.prefill_part(&prompt, 0)).unwrap();
    assert_eq!(gpu.readbacks(), before, "a prompt leaves its logits where they are");
    let (answer, ahead) = by_draws(&mut sequence, &mut samplers(&SamplingConfig::default(), 1), 5);
    assert_eq!(gpu.readbacks() - before, 5);
    assert_eq!((ahead, sequence.lengths()), (4, &[12][..]), "the fifth token has no slot");
    let last = answer[4].ids.clone();
    assert!(matches!(sequence.append(&last), Err(Error::PromptTooLong { prompt_tokens: 13, context: 12, .. })));
    // What was drawn is the likeliest.
    let mut ids = prompt;
    ids.extend(answer[..4].iter().map(|seen| seen.ids[0]));
    let run = reference.run_batch(std::slice::from_ref(&ids), &mut Masks::new());
    let found = sequences(&engine, 1, 12).prefill(&[ids]).unwrap();
    assert_close(&found[0], &reference.last_logits(&run.last[0]), tolerance(engine.config(), 12), "logits");
    let most = found[0].iter().copied().fold(f32::MIN, f32::max);
    assert!(found[0][last[0] as usize] > most - 1e-4);
}

#[test]
fn draws_without_logits_and_with_other_samplers_are_refused() {
    let (engine, _) = tiny(&spec());
    let mut sequence = sequences(&engine, 2, 20);
    let greedy = SamplingConfig::default();
    assert!(matches!(pollster::block_on(sequence.draw(&mut samplers(&greedy, 2))), Err(Error::Internal(_))));
    assert!(matches!(sequence.logits(), Err(Error::Internal(_))));
    assert!(matches!(pollster::block_on(sequence.drawn()), Err(Error::Internal(_))));
    sequence.prefill(&[vec![1, 2], vec![3, 4]]).unwrap();
    let error = pollster::block_on(sequence.draw(&mut samplers(&greedy, 1))).expect_err("one sampler for two");
    assert!(error.to_string().contains("1 samplers for 2 sequences"), "{error}");
    let mut different = samplers(&greedy, 1);
    different.extend(samplers(&SamplingConfig { temperature: 1.0, ..greedy.clone() }, 1));
    assert!(pollster::block_on(sequence.draw(&mut different)).is_err());
    pollster::block_on(sequence.draw(&mut samplers(&greedy, 2))).unwrap();
    assert!(matches!(sequence.logits(), Err(Error::Internal(_))), "they were drawn from");
    assert_eq!(pollster::block_on(sequence.drawn()).unwrap(), pollster::block_on(sequence.drawn()).unwrap());
}

/// A head so large that its products overflow to infinities of both signs.
fn without_numbers() -> GgufWriter {
    let mut file = TinySpec { tied: false, ..spec() }.gguf();
    let head = file.tensor("output.weight");
    let big = head.data.chunks_exact(4).map(|value| if value[3] & 0x80 == 0 { f32::MAX } else { f32::MIN });
    head.data = big.flat_map(f32::to_le_bytes).collect();
    file
}

#[test]
fn logits_that_are_no_numbers_are_an_error_of_the_draw() {
    for tier in [Tier::Software, Tier::Gpu] {
        let gpu = open(&GpuOptions { tier: Some(tier), ..GpuOptions::default() });
        let engine = load(&gpu, &files(&without_numbers()));
        let prompt = vec![Random(9).ids(5, 288)];
        for temperature in [0.0, 1.0] {
            let sampling = SamplingConfig { temperature, ..SamplingConfig::default() };
            let mut sequence = sequences(&engine, 1, 20);
            let logits = sequence.prefill(&prompt).unwrap().swap_remove(0);
            let expected = samplers(&sampling, 1)[0].sample(&logits).expect_err("no number").to_string();
            let mut draw = || {
                pollster::block_on(sequence.draw(&mut samplers(&sampling, 1)))?;
                sequence.run_ahead()?;
                pollster::block_on(sequence.drawn())
            };
            assert_eq!(draw().expect_err("no number").to_string(), expected, "{tier:?}");
            assert!(expected.contains("is not a number"), "{expected}");
        }
    }
}

//! Probes on the way: what is told of them, what changes in the middle of an answer, what a comparison measures.

use super::{Bench, LONG, dense, pruned, request, spec};
use crate::common::tiny_model::TinySpec;
use secateur::config::{Method, PruneBlocks, PruneConfig, PrunePhases};
use secateur::protocol::{Cause, Command, Event, Heat, UnitHeat};

/// The units with the best scores, ties to the lower one.
fn best(units: &UnitHeat) -> Vec<u32> {
    let mut order: Vec<u32> = (0..units.scores.len() as u32).collect();
    order.sort_by(|&a, &b| units.scores[b as usize].total_cmp(&units.scores[a as usize]).then(a.cmp(&b)));
    order.truncate(units.kept.len());
    order.sort_unstable();
    order
}

fn check(heat: &Heat, kept: (usize, usize)) {
    assert_eq!((heat.layers.len(), heat.heads, heat.channels), (4, 4, 96));
    assert!(heat.layers[0].heads.is_none() && heat.layers[0].channels.is_none(), "the first layer is dense");
    for layer in &heat.layers[1..] {
        let (heads, channels) = (layer.heads.as_ref().unwrap(), layer.channels.as_ref().unwrap());
        assert_eq!((heads.kept.len(), channels.kept.len()), kept);
        for units in [heads, channels] {
            assert_eq!(units.kept, best(units), "what is kept has the best scores");
        }
    }
}

#[test]
fn every_probe_is_told_with_its_scores() {
    let mut bench = Bench::new();
    let found = bench.answer(request(1, &["Hello there"], pruned(0.4)));
    // One for the prompt, one for every four tokens run.
    assert_eq!(found.heats.len(), 1 + (found.figures.decoded - 1) / 4);
    for (index, heat) in found.heats.iter().enumerate() {
        // 4/3 of 0.4 of 4 heads and of 96 channels, channels in tiles of 8.
        check(heat, (2, 48));
        assert_eq!(heat.index, index);
        assert_eq!(heat.cause, if index == 0 { Cause::Prompt } else { Cause::Renewal });
        assert_eq!(heat.at, found.figures.prompt_tokens + 4 * index);
        assert!(heat.layers[1].channels.as_ref().unwrap().probed.is_empty(), "a dense prompt is its own probe");
    }
    let cost = found.figures.decode;
    assert!(cost.flops < cost.flops_dense && cost.flops_probe > 0.0 && cost.bytes < cost.bytes_dense);
}

#[test]
fn a_probed_prompt_tells_which_tokens_were_probed() {
    let phases = PrunePhases { prefill: true, decode: true };
    let prune = PruneConfig { phases, lead_tokens: 0, probe_tokens: 0.25, ..pruned(0.4) };
    let mut bench = Bench::new();
    let texts = ["A question that is long enough for a probe to leave most of it out"];
    let found = bench.answer(request(1, &texts, prune.clone()));
    let probe = found.figures.prompt_tokens.div_ceil(4);
    for layer in &found.heats[0].layers[1..] {
        for units in [layer.heads.as_ref().unwrap(), layer.channels.as_ref().unwrap()] {
            assert_eq!(units.probed.len(), probe);
            assert!(units.probed.windows(2).all(|pair| pair[0] < pair[1]));
            assert!((units.probed[probe - 1] as usize) < found.figures.prompt_tokens);
        }
    }
    assert!(found.figures.prefill.flops_probe > 0.0);

    // The next prompt is probed behind what the cache holds.
    let second = bench.answer(request(2, &[texts[0], "Yes", "More"], prune));
    let cached = second.prompt.unwrap().cached;
    assert!(cached > 0);
    assert_eq!(second.heats[0].at, cached);
    let places = cached as u32..second.figures.prompt_tokens as u32;
    assert!(second.heats[0].layers[1].channels.as_ref().unwrap().probed.iter().all(|place| places.contains(place)));
}

/// The lead of a prompt tells what it chose where it ended, and costs nothing but what it does not save.
#[test]
fn a_led_prompt_tells_what_its_lead_chose() {
    let phases = PrunePhases { prefill: true, decode: true };
    let prune = PruneConfig { phases, lead_tokens: 8, ..pruned(0.4) };
    let mut bench = Bench::new();
    let texts = ["A question that is long enough for its first tokens to leave most of it to be led"];
    let found = bench.answer(request(1, &texts, prune.clone()));
    let heat = &found.heats[0];
    let prompt = found.figures.prompt_tokens;
    assert_eq!((heat.at, heat.cause), (prune.lead(prompt), Cause::Prompt));
    assert!(heat.at < prompt, "{prompt} tokens");
    assert!(heat.layers[1].channels.as_ref().unwrap().probed.is_empty());
    let cost = found.figures.prefill;
    assert_eq!(cost.flops_probe, 0.0);
    let config = secateur::model::ModelFiles::open(&bench.path()).unwrap().config;
    let planned = secateur::session::planned(&config, &prune, prompt);
    assert!((1.0 - cost.flops / cost.flops_dense - planned.prompt_removed).abs() < 1e-9, "{cost:?}, {planned:?}");
    assert!(planned.prompt_removed > 0.1, "{planned:?}");
}

#[test]
fn a_new_ratio_takes_effect_with_the_next_re_probe() {
    let mut bench = Bench::new();
    bench.handle.send(Command::Answer(Box::new(request(1, &["Hello there"], pruned(0.0)))));
    let mut told = 0;
    let found = bench.hear(1, |handle, _, answered| {
        told += 1;
        if answered.pieces == 6 && told < 1000 {
            handle.send(Command::Prune { id: 1, prune: pruned(0.6) });
            told = 1000;
        }
    });
    let first = found.heats.first().expect("a probe");
    // At 0.0 nothing is chosen; at 4/3 of 0.6, one head and 24 channels are left.
    assert_eq!((first.index, first.cause, first.ratio), (0, Cause::Renewal, 0.6));
    check(first, (1, 24));
    assert!((first.at - found.figures.prompt_tokens).is_multiple_of(4), "in the middle of a window");
    let cost = found.figures.decode;
    assert!(cost.flops + cost.flops_probe < cost.flops_dense);

    // The masks are those that a dense prompt of the same tokens chooses: until then every unit was seen.
    let model = secateur::model::ModelFiles::open(&bench.path()).unwrap();
    let tokenizer = secateur::text::Tokenizer::new(&model.text).unwrap();
    let template = secateur::text::ChatTemplate::new(&model.text, &tokenizer).unwrap();
    let prompt = template.prompt(&tokenizer, &super::messages(&["Hello there"]), true).unwrap();
    let mut ids = tokenizer.encode_prompt(&prompt).unwrap();
    let engine = crate::common::device::load(&crate::common::device::gpu(), &model);
    let options = |live| secateur::engine::SequenceOptions {
        samples: 1,
        context: 512,
        prune: if live { pruned(0.6) } else { dense() },
        known: secateur::prune::Knowledge::default(),
        live,
    };
    let mut greedy = secateur::engine::Sequences::new(&engine, options(false)).unwrap();
    let mut logits = greedy.prefill(&[ids.clone()]).unwrap().swap_remove(0);
    while ids.len() < first.at {
        let token = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32;
        ids.push(token);
        logits = greedy.step(&[token]).unwrap().swap_remove(0);
    }
    let mut sequences = secateur::engine::Sequences::new(&engine, options(true)).unwrap();
    sequences.prefill(&[ids]).unwrap();
    let watched = sequences.watched().unwrap().expect("a choice");
    for (layer, [heads, channels]) in watched.layers.iter().enumerate().skip(1) {
        assert_eq!(heads.as_ref().unwrap().kept, first.layers[layer].heads.as_ref().unwrap().kept);
        assert_eq!(channels.as_ref().unwrap().kept, first.layers[layer].channels.as_ref().unwrap().kept);
    }
}

#[test]
fn settings_of_an_answer_that_waits_leave_the_one_that_runs_alone() {
    let mut bench = Bench::new();
    bench.handle.send(Command::Answer(Box::new(request(1, &["Hello there"], pruned(0.4)))));
    bench.handle.send(Command::Answer(Box::new(request(2, &["Hello there"], pruned(0.4)))));
    bench.handle.send(Command::Prune { id: 2, prune: pruned(0.6) });
    let first = bench.hear(1, |_, _, _| {});
    assert!(first.heats.len() > 2 && first.heats.iter().all(|heat| heat.ratio == 0.4));
    let second = bench.hear(2, |_, _, _| {});
    assert_eq!(second.heats.last().expect("a probe").ratio, 0.6);
}

#[test]
fn settings_change_from_answer_to_answer() {
    let mut bench = Bench::new();
    let mut ask = |id, prune: PruneConfig| bench.answer(request(id, &["Hello there"], prune)).heats;
    assert!(ask(1, dense()).is_empty());
    check(&ask(2, pruned(0.4))[0], (2, 48));
    let mlp = ask(3, PruneConfig { blocks: PruneBlocks { attention: false, mlp: true }, ..pruned(0.4) });
    assert!(mlp[0].layers[1].heads.is_none() && mlp[0].layers[1].channels.is_some());
    let attention = ask(4, PruneConfig { blocks: PruneBlocks { attention: true, mlp: false }, ..pruned(0.4) });
    assert!(attention[0].layers[1].heads.is_some() && attention[0].layers[1].channels.is_none());
    assert_eq!(ask(5, PruneConfig { reprobe_every: 0, ..pruned(0.4) }).len(), 1);
    assert!(ask(6, PruneConfig { reprobe_every: 2, ..pruned(0.4) }).len() > 10);
    let phases = PrunePhases { prefill: true, decode: false };
    let prompt = ask(7, PruneConfig { phases, method: Method::FullBatch, ..pruned(0.4) });
    assert_eq!(prompt.len(), 1, "an answer that runs dense is not probed");
    check(&prompt[0], (2, 48));
}

#[test]
fn a_comparison_with_nothing_pruned_finds_no_difference() {
    let mut bench = Bench::new();
    let answer = bench.answer(request(1, &["Hello there"], dense()));
    let found = bench.compare(request(2, &["Hello there"], PruneConfig { ratio: 0.0, ..pruned(0.0) }));
    assert_eq!((found.text, found.tokens), (answer.text, answer.figures.answer_tokens));
    assert_eq!(found.pruned_perplexity, Some(found.dense_perplexity));
    assert!(found.dense_perplexity > 1.0 && found.dense_rate > 0.0 && found.pruned_rate.unwrap() > 0.0);
}

#[test]
fn a_comparison_measures_the_dense_answer_under_pruning_and_leaves_the_chat_alone() {
    let mut bench = Bench::new();
    let first = bench.answer(request(1, &[LONG], pruned(0.6)));
    let found = bench.compare(request(2, &[LONG], pruned(0.6)));
    let dense_answer = Bench::new().answer(request(1, &[LONG], dense()));
    assert_eq!(found.text, dense_answer.text, "the dense answer");
    assert!(found.pruned_perplexity.unwrap() > found.dense_perplexity, "{found:?}");
    let texts = [LONG, &first.text, "And then?"];
    let second = bench.answer(request(3, &texts, pruned(0.6)));
    assert!(second.prompt.unwrap().cached > 0, "the chat's cache is still there");
}

#[test]
fn masks_of_an_evaluation_open_in_the_same_form() {
    let mut bench = Bench::with(&TinySpec { layers: 2, ..spec() }, 512);
    let path = bench.dir.path().join("masks.jsonl");
    let binary = env!("CARGO_BIN_EXE_secateur");
    let text = bench.dir.path().join("text.txt");
    std::fs::write(&text, "the cat and the dog ran in the rain. ".repeat(30)).unwrap();
    let run = std::process::Command::new(binary)
        .args(["eval", "perplexity", "--seq-len", "32", "--batch", "2", "--batches", "3", "--ratio", "0.5"])
        .args(["--dense-layers", "1", "--tile", "8", "--history", "off", "--model"])
        .arg(bench.path())
        .arg("--data")
        .arg(&text)
        .arg("--masks")
        .arg(&path)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    bench.handle.send(Command::ReadMasks(path.clone()));
    let event = bench.until(|event| matches!(event, Event::Masks(_) | Event::MasksFailed { .. }));
    let Event::Masks(file) = event else { panic!("{event:?}") };
    assert_eq!((file.path, file.batches.len()), (path.clone(), 3));
    assert!(file.title.contains("pp at 0.5") && file.title.contains("2 × 32"), "{}", file.title);
    let heat = &file.batches[2];
    assert!(heat.id == 2 && heat.layers[0].channels.is_none());
    assert!(heat.layers[1].channels.as_ref().unwrap().kept.len() < 96);

    std::fs::write(&path, "no masks\n").unwrap();
    bench.handle.send(Command::ReadMasks(path));
    let Event::MasksFailed { error } = bench.until(|event| matches!(event, Event::MasksFailed { .. })) else {
        unreachable!()
    };
    assert!(error.contains("line 1"), "{error}");
}

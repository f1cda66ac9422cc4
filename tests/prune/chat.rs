//! Pruned decoding: frozen masks, masks from the prompt, masks renewed along the way.

use super::{CALIBRATED, CLOSE, agree, calibrated, model, phases, read_masks, settings};
use crate::common::device::{Random, assert_close, tiny, tolerance};
use crate::common::reference::Masks;
use crate::common::reference::chat::Chat;
use crate::common::tiny_model::TinySpec;
use secateur::config::{Fusion, HistoryKind, Method, ProbeShares, PruneConfig, ScoreKind, Statistic};
use secateur::engine::{SequenceOptions, Sequences};
use secateur::model::TensorType;
use secateur::prune::Knowledge;

/// What is appended: a prompt for every sequence, or so many tokens one after another.
#[derive(Debug, Clone)]
pub enum Turn {
    Prompts(Vec<usize>),
    Answer(usize),
}
use HistoryKind::{Buckets, Collapsed, Exact, Off};
use Turn::{Answer, Prompts};

/// Runs turns through engine and reference: masks and logits after every token. Returns the masks that were compared,
/// `false` where a margin was too small to tell and the case was left.
fn converse(spec: &TinySpec, prune: &PruneConfig, kind: HistoryKind, turns: &[Turn]) -> (usize, bool) {
    let (engine, reference) = tiny(spec);
    let samples = match &turns[0] {
        Prompts(lengths) => lengths.len(),
        Answer(_) => 1,
    };
    let prune = &PruneConfig { history: kind, ..prune.clone() };
    // By ranges, positions are calibrated by ranges already.
    let positions = if kind == HistoryKind::Buckets { HistoryKind::Buckets } else { HistoryKind::Exact };
    let (known, exact) = calibrated(&engine, &reference, positions);
    let options = SequenceOptions { samples, context: 120, prune: prune.clone(), known, live: false };
    let mut sequences = Sequences::new(&engine, options).unwrap();
    let mut chat = Chat::new(&reference, prune, Some(exact), samples);
    let mut random = Random(spec.seed);
    let (allowed, mut compared, mut step) = (tolerance(engine.config(), 120), 0, 0);
    for turn in turns {
        let count = if let Answer(count) = turn { *count } else { 1 };
        for _ in 0..count {
            let case = format!("{spec:?}, {prune:?}, {kind:?}, {turns:?}, call {step}");
            step += 1;
            let choices = chat.choices;
            let (logits, exact) = match turn {
                Prompts(lengths) => {
                    let prompts = random.batch(lengths, spec.vocab);
                    (sequences.prefill(&prompts).unwrap(), chat.prefill(&prompts))
                }
                Answer(_) => {
                    let ids = random.ids(samples, spec.vocab);
                    (sequences.step(&ids).unwrap(), chat.step(&ids))
                }
            };
            assert_eq!(sequences.choices(), chat.choices, "{case}: choices");
            if chat.choices > choices {
                let masks = read_masks(engine.gpu(), sequences.masks());
                assert_eq!(masks.len(), chat.masks.len(), "{case}: sites");
                for (site, units) in &masks {
                    compared += 1;
                    if !agree("kept units", units, &chat.masks[site], chat.margins[site], &format!("{case}, {site:?}"))
                    {
                        return (compared, false);
                    }
                }
            }
            for (sample, (logits, exact)) in logits.iter().zip(&exact).enumerate() {
                assert_close(logits, exact, allowed, &format!("{case}: logits of sequence {sample}"));
            }
        }
    }
    let lengths: Vec<usize> = chat.streams.iter().map(|stream| stream.length).collect();
    assert_eq!(sequences.lengths(), lengths);
    (compared, true)
}

pub fn converse_all(cases: &[(TinySpec, PruneConfig, HistoryKind, Vec<Turn>)]) {
    let results: Vec<_> = cases.iter().map(|(spec, prune, kind, turns)| converse(spec, prune, *kind, turns)).collect();
    let unclear = results.iter().filter(|(_, same)| !same).count();
    let compared: usize = results.iter().map(|(compared, _)| compared).sum();
    println!("{compared} masks of {} cases, {unclear} left early (margins below {CLOSE})", cases.len());
    assert!(unclear * 10 <= cases.len(), "{unclear} of {} cases had margins too small to tell", cases.len());
    assert!(compared >= 4 * cases.len(), "{compared} masks are too few to mean anything");
}

pub fn decode(ratio: f64, every: usize) -> PruneConfig {
    PruneConfig { phases: phases(false, true), reprobe_every: every, ..settings(ratio, 1, 8) }
}

/// Every token of an answer shows what all units would have done.
fn every_token(prune: PruneConfig) -> PruneConfig {
    PruneConfig { reprobe_tokens: usize::MAX, ..prune }
}

fn both(ratio: f64, every: usize) -> PruneConfig {
    PruneConfig { phases: phases(true, true), ..decode(ratio, every) }
}

#[test]
fn a_dense_prompt_chooses_the_units_of_its_answer() {
    converse_all(&[
        (model(0, 50), decode(0.2, 0), Off, vec![Prompts(vec![20]), Answer(12)]),
        (model(1, 51), decode(0.4, 0), Collapsed, vec![Prompts(vec![2]), Answer(12)]),
        (model(2, 52), decode(0.6, 0), Collapsed, vec![Prompts(vec![70]), Answer(5)]),
        // Of a history by position the mean over positions serves.
        (model(2, 56), decode(0.4, 0), Buckets, vec![Prompts(vec![12]), Answer(5)]),
        (model(0, 53), decode(0.4, 0), Exact, vec![Prompts(vec![30]), Answer(5)]),
        (TinySpec { kind: TensorType::Q4_1, ..model(0, 54) }, decode(0.4, 0), Off, vec![Prompts(vec![15]), Answer(10)]),
        // A second prompt is added to the sums.
        (model(0, 55), decode(0.4, 0), Collapsed, vec![Prompts(vec![9]), Answer(4), Prompts(vec![14]), Answer(4)]),
    ]);
}

#[test]
fn masks_are_renewed_every_so_many_tokens() {
    converse_all(&[
        (model(0, 60), decode(0.2, 4), Off, vec![Prompts(vec![6]), Answer(26)]),
        (model(1, 61), every_token(decode(0.4, 5)), Collapsed, vec![Prompts(vec![12]), Answer(26)]),
        (model(2, 62), every_token(decode(0.6, 16)), Collapsed, vec![Prompts(vec![3]), Answer(40)]),
        (
            model(2, 62),
            PruneConfig { reprobe_tokens: 3, ..decode(0.6, 16) },
            Collapsed,
            vec![Prompts(vec![3]), Answer(70)],
        ),
        (model(0, 63), decode(0.6, 1), Collapsed, vec![Prompts(vec![5]), Answer(20)]),
        (TinySpec { kind: TensorType::Q8_0, ..model(0, 64) }, decode(0.4, 2), Off, vec![Prompts(vec![4]), Answer(15)]),
        // Tokens since the last renewal enter the sums before a new prompt does.
        (model(2, 65), decode(0.4, 4), Collapsed, vec![Prompts(vec![10]), Answer(10), Prompts(vec![7]), Answer(13)]),
        (
            model(1, 66),
            PruneConfig { dense_layers: 3, tile: 16, ..decode(0.3, 3) },
            Off,
            vec![Prompts(vec![8]), Answer(20)],
        ),
    ]);
}

#[test]
fn a_probed_prompt_chooses_and_its_answer_renews() {
    let exact = |prune: PruneConfig| PruneConfig { probe_tokens: 0.3, ..prune };
    converse_all(&[
        (model(0, 70), both(0.2, 0), Off, vec![Prompts(vec![30]), Answer(10)]),
        (model(1, 71), every_token(both(0.4, 4)), Collapsed, vec![Prompts(vec![22]), Answer(18)]),
        (model(2, 72), exact(both(0.6, 0)), Exact, vec![Prompts(vec![40]), Answer(8)]),
        (model(0, 73), exact(both(0.4, 3)), Exact, vec![Prompts(vec![25]), Answer(14)]),
        (model(1, 74), both(0.4, 5), Collapsed, vec![Prompts(vec![12]), Answer(7), Prompts(vec![16]), Answer(12)]),
        (
            model(0, 75),
            PruneConfig { method: Method::FullBatch, ..both(0.4, 4) },
            Off,
            vec![Prompts(vec![14]), Answer(14)],
        ),
    ]);
}

/// A probed prompt that opens a sequence is judged by position, as far as the history has positions; later ones are not.
#[test]
fn a_history_by_position_serves_openings() {
    let exact = |prune: PruneConfig| PruneConfig { probe_tokens: 0.3, ..prune };
    converse_all(&[
        (model(0, 76), both(0.4, 0), Exact, vec![Prompts(vec![20]), Answer(3), Prompts(vec![16]), Answer(3)]),
        (model(1, 77), both(0.4, 3), Buckets, vec![Prompts(vec![20]), Answer(7), Prompts(vec![16]), Answer(7)]),
        (model(2, 78), exact(both(0.4, 4)), Exact, vec![Prompts(vec![CALIBRATED.1 + 1]), Answer(6)]),
        (model(0, 79), exact(both(0.4, 4)), Buckets, vec![Prompts(vec![CALIBRATED.1 + 30]), Answer(6)]),
    ]);
}

/// The options of Probe Pruning in a conversation: prompts dense and probed, masks kept and renewed.
#[test]
fn options_hold_in_conversations() {
    let heads = |tokens| Some(ProbeShares { tokens, samples: 1.0 });
    let turns = || vec![Prompts(vec![14]), Answer(9), Prompts(vec![6]), Answer(5)];
    converse_all(&[
        (model(0, 100), PruneConfig { score: ScoreKind::Wanda, ..decode(0.4, 4) }, Collapsed, turns()),
        (model(1, 101), PruneConfig { fusion: Fusion::Fixed(0.3), ..decode(0.4, 4) }, Exact, turns()),
        (model(2, 102), PruneConfig { fusion: Fusion::Fixed(0.3), ..both(0.4, 4) }, Buckets, turns()),
        (model(0, 103), PruneConfig { statistic: Statistic::Fluctuation, ..decode(0.4, 4) }, Exact, turns()),
        (
            model(1, 104),
            PruneConfig { statistic: Statistic::Fluctuation, score: ScoreKind::Flap, ..both(0.4, 4) },
            Buckets,
            turns(),
        ),
        (model(2, 105), PruneConfig { compensate: true, ..decode(0.4, 4) }, Exact, turns()),
        (model(0, 106), PruneConfig { compensate: true, ..both(0.4, 4) }, Exact, turns()),
        (model(1, 107), PruneConfig { compensate: true, ..both(0.6, 0) }, Off, turns()),
        (model(2, 108), PruneConfig { whole_groups: true, ..decode(0.4, 4) }, Collapsed, turns()),
        (model(0, 109), PruneConfig { whole_groups: true, compensate: true, ..both(0.4, 4) }, Exact, turns()),
        (model(1, 110), PruneConfig { probe_heads: heads(1.0), ..both(0.4, 4) }, Exact, turns()),
        (model(2, 111), PruneConfig { probe_heads: heads(0.2), ..both(0.4, 3) }, Off, turns()),
        // A mean over the tokens that each half's sums have, or heads would weigh a tenth beside their history.
        (
            model(2, 112),
            PruneConfig { probe_heads: heads(0.1), probe_tokens: 1.0, fusion: Fusion::Fixed(0.5), ..both(0.6, 3) },
            Collapsed,
            vec![Prompts(vec![40]), Answer(20)],
        ),
    ]);
}

/// The first tokens of a prompt run whole and choose for the rest of it.
#[test]
fn a_prompt_is_led_by_its_first_tokens() {
    let led = |lead_tokens: usize, prune: PruneConfig| PruneConfig { lead_tokens, ..prune };
    let prompts_alone = PruneConfig { phases: phases(true, false), ..settings(0.4, 1, 8) };
    let centred = PruneConfig { compensate: true, statistic: Statistic::Fluctuation, ..both(0.4, 4) };
    let groups = PruneConfig { whole_groups: true, ..prompts_alone.clone() };
    let side_by_side = PruneConfig { probe_samples: 0.5, ..both(0.4, 0) };
    converse_all(&[
        (model(0, 150), led(8, both(0.2, 0)), Off, vec![Prompts(vec![68]), Answer(6)]),
        // What is beyond a tile leads; then there is nothing but a lead.
        (
            model(1, 151),
            led(8, both(0.4, 4)),
            Collapsed,
            vec![Prompts(vec![77]), Answer(10), Prompts(vec![9]), Answer(6)],
        ),
        (
            model(2, 152),
            led(6, every_token(both(0.6, 4))),
            Exact,
            vec![Prompts(vec![66]), Answer(13), Prompts(vec![30])],
        ),
        (
            model(0, 153),
            led(70, both(0.4, 3)),
            Buckets,
            vec![Prompts(vec![65]), Answer(7), Prompts(vec![40]), Answer(4)],
        ),
        (model(1, 154), led(1, both(0.4, 0)), Off, vec![Prompts(vec![65])]),
        (model(2, 155), led(8, prompts_alone), Collapsed, vec![Prompts(vec![90]), Answer(5), Prompts(vec![12])]),
        (model(0, 156), led(8, centred), Exact, vec![Prompts(vec![75]), Answer(9), Prompts(vec![20])]),
        (model(1, 157), led(5, groups), Off, vec![Prompts(vec![118])]),
        // Prompts side by side are a batch, which is probed.
        (model(0, 158), led(8, side_by_side), Off, vec![Prompts(vec![70, 9, 17]), Answer(4)]),
    ]);
}

/// However a prompt is cut into passes, its lead chooses the same units for the same tokens.
#[test]
fn a_led_prompt_in_parts_is_the_same() {
    let spec = model(0, 159);
    let (engine, _) = tiny(&spec);
    let ids = Random(23).ids(400, spec.vocab);
    for (prefill, decode) in [(true, true), (true, false), (false, true)] {
        let prune = PruneConfig { phases: phases(prefill, decode), lead_tokens: 32, ..settings(0.4, 1, 8) };
        let start = |live: bool| {
            let (prune, known) = (prune.clone(), Knowledge::default());
            Sequences::new(&engine, SequenceOptions { samples: 1, context: 420, prune, known, live }).unwrap()
        };
        let mut at_once = start(false);
        let whole = at_once.prefill(std::slice::from_ref(&ids)).unwrap();
        let mut sequence = start(true);
        let (mut done, mut ends) = (0, Vec::new());
        while done < ids.len() {
            done = pollster::block_on(sequence.prefill_part(&ids, done)).unwrap();
            ends.push(done);
        }
        // 400 tokens are six tiles and 16 tokens.
        assert_eq!(ends, if prefill { vec![32, 288, 400] } else { vec![256, 400] });
        let parts = sequence.logits().unwrap();
        let exact: Vec<f64> = whole[0].iter().map(|&logit| f64::from(logit)).collect();
        assert_close(&parts[0], &exact, 2.0 * tolerance(engine.config(), 400), &format!("{prefill}, {decode}"));
        let watched = sequence.watched().unwrap().expect("a choice that is there");
        assert_eq!((watched.at, watched.index), (if prefill { 32 } else { 400 }, 0));
        assert_eq!(sequence.choices(), at_once.choices());
        // Whoever prunes prompts alone goes on with every unit.
        assert_eq!(read_masks(engine.gpu(), sequence.masks()).is_empty(), !decode);
        if decode {
            let masks = |sequence: &Sequences| read_masks(engine.gpu(), sequence.masks());
            assert_eq!(masks(&sequence), masks(&at_once));
        }
    }
}

/// Pruned prompts, dense answers.
#[test]
fn a_probed_prompt_with_a_dense_answer() {
    let prefill = |ratio| PruneConfig { phases: phases(true, false), ..settings(ratio, 1, 8) };
    converse_all(&[
        (model(0, 80), prefill(0.4), Exact, vec![Prompts(vec![30]), Answer(6)]),
        (model(2, 81), prefill(0.6), Collapsed, vec![Prompts(vec![18]), Answer(6), Prompts(vec![5]), Answer(2)]),
    ]);
}

/// One choice for sequences side by side, from all of their tokens and none of their padding.
#[test]
fn sequences_side_by_side_share_a_choice() {
    let samples = |prune: PruneConfig| PruneConfig { probe_samples: 0.5, ..prune };
    converse_all(&[
        (model(0, 90), decode(0.4, 0), Off, vec![Prompts(vec![20, 20, 20]), Answer(6)]),
        (model(1, 91), decode(0.4, 0), Collapsed, vec![Prompts(vec![5, 21, 2, 13]), Answer(6)]),
        (model(2, 92), samples(both(0.4, 0)), Collapsed, vec![Prompts(vec![25, 9, 17]), Answer(6)]),
        (model(0, 93), samples(both(0.6, 0)), Exact, vec![Prompts(vec![8, 16]), Answer(4), Prompts(vec![4, 9])]),
    ]);
}

/// An emptied conversation starts like a new one, whatever its sums and masks were.
#[test]
fn a_cleared_conversation_is_a_new_one() {
    let spec = model(0, 95);
    let (engine, _) = tiny(&spec);
    for prune in [decode(0.4, 3), both(0.4, 3)] {
        let options = || SequenceOptions {
            samples: 1,
            context: 60,
            prune: prune.clone(),
            known: Knowledge::default(),
            live: false,
        };
        let run = |sequence: &mut Sequences| {
            let mut random = Random(17);
            let mut all = sequence.prefill(&[random.ids(11, spec.vocab)]).unwrap();
            random.ids(11, spec.vocab).into_iter().for_each(|id| all.extend(sequence.step(&[id]).unwrap()));
            (all, read_masks(engine.gpu(), sequence.masks()), sequence.choices())
        };
        let mut sequence = Sequences::new(&engine, options()).unwrap();
        let first = run(&mut sequence);
        assert_eq!(first.2, 4);
        sequence.truncate(0, 15);
        sequence.clear().unwrap();
        assert!(sequence.masks().is_empty());
        assert_eq!(run(&mut sequence), first);
    }
}

/// What needs a calibration has to have one; what chooses once cannot be watched.
#[test]
fn settings_that_cannot_run_are_refused() {
    let (engine, reference) = tiny(&model(0, 97));
    let (known, _) = calibrated(&engine, &reference, Exact);
    let refused = |prune: PruneConfig, known: &Knowledge, live: bool, part: &str| {
        let options = SequenceOptions { samples: 1, context: 60, prune, known: known.clone(), live };
        let error = Sequences::new(&engine, options).err().expect("settings that cannot run");
        assert!(error.is_user_fault() && error.to_string().contains(part), "{error}");
    };
    let none = Knowledge::default();
    refused(PruneConfig { compensate: true, ..decode(0.4, 0) }, &none, false, "--calibration");
    refused(PruneConfig { statistic: Statistic::Fluctuation, ..decode(0.4, 0) }, &none, true, "--calibration");
    refused(PruneConfig { method: Method::Flap, ..decode(0.4, 0) }, &none, false, "--calibration");
    refused(PruneConfig { method: Method::Masks, ..decode(0.4, 0) }, &known, false, "--masks-in");
    refused(PruneConfig { method: Method::WandaSp, ..decode(0.4, 0) }, &known, true, "`wanda-sp` chooses once");
    // Live sequences refuse changes to such settings, and go on as they were.
    let options = SequenceOptions { samples: 1, context: 60, prune: decode(0.4, 0), known: none, live: true };
    let mut sequence = Sequences::new(&engine, options).unwrap();
    assert!(sequence.set_prune(&PruneConfig { compensate: true, ..decode(0.4, 0) }).is_err());
    assert!(sequence.set_prune(&PruneConfig { method: Method::Flap, ..decode(0.4, 0) }).is_err());
    assert_eq!(sequence.prune(), &decode(0.4, 0));
}

/// Settings that change on the way choose as if they had been there from the start, where the sums are the same.
#[test]
fn changed_options_choose_anew() {
    let spec = model(2, 98);
    let (engine, reference) = tiny(&spec);
    let (known, _) = calibrated(&engine, &reference, Exact);
    let ids = Random(19).ids(20, spec.vocab);
    let start = |prune: &PruneConfig| {
        let (prune, known) = (prune.clone(), known.clone());
        Sequences::new(&engine, SequenceOptions { samples: 1, context: 60, prune, known, live: true }).unwrap()
    };
    let end = |sequence: &mut Sequences| {
        let logits = sequence.prefill(std::slice::from_ref(&ids)).unwrap();
        (logits, sequence.step(&[7]).unwrap(), read_masks(engine.gpu(), sequence.masks()))
    };
    let base = decode(0.4, 0);
    let plain = end(&mut start(&base));
    let mut others = Vec::new();
    for changed in [
        PruneConfig { score: ScoreKind::Wanda, ..base.clone() },
        PruneConfig { fusion: Fusion::Fixed(0.1), ..base.clone() },
        PruneConfig { statistic: Statistic::Fluctuation, ..base.clone() },
        PruneConfig { whole_groups: true, ..base.clone() },
        PruneConfig { compensate: true, ..base.clone() },
        PruneConfig { history: Off, ..base.clone() },
    ] {
        let mut sequence = start(&base);
        sequence.set_prune(&changed).unwrap();
        let found = end(&mut sequence);
        assert_eq!(found, end(&mut start(&changed)), "{changed:?}");
        others.push(found != plain);
    }
    assert_eq!(others, [true; 6], "every one of these options makes a difference");
}

/// Without a prompt there is nothing to choose from: tokens run dense until there is one.
#[test]
fn tokens_before_any_prompt_run_dense() {
    let (engine, reference) = tiny(&model(0, 96));
    let options =
        SequenceOptions { samples: 1, context: 60, prune: decode(0.4, 3), known: Knowledge::default(), live: false };
    let mut sequence = Sequences::new(&engine, options).unwrap();
    let ids = Random(18).ids(9, 288);
    let run = reference.run_batch(std::slice::from_ref(&ids), &mut Masks::new());
    for (t, (&id, exact)) in ids.iter().zip(reference.logits(&run.last[0])).enumerate() {
        let logits = sequence.step(&[id]).unwrap();
        assert_close(&logits[0], &exact, tolerance(engine.config(), 60), &format!("token {t}"));
    }
    assert_eq!(sequence.choices(), 0);
    sequence.prefill(&[vec![1, 2, 3]]).unwrap();
    (0..7).for_each(|id| drop(sequence.step(&[id]).unwrap()));
    assert_eq!(sequence.choices(), 3);
}

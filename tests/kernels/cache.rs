//! Sweeps of the ops around the cache of keys and values.

use super::harness::{Device, EPS, Element, QUOTIENT, ROOT, Random, TINY, exact, exp_error, summing, widen};
use secateur::gpu::{Buffer, Contents, Tier};
use secateur::kernels::attention::{Members, Queries};
use secateur::kernels::rope_append::{Heads, Turns};
use secateur::kernels::{self, Cache, qkv_list, top_k::DROPPED};

const HEAD_DIMS: [usize; 3] = [8, 64, 128];
const GROUPS: [usize; 5] = [1, 2, 3, 4, 9];

/// Groups by head size: pipelines of attention take seconds to compile on software adapters, the wide ones most.
const ATTENTION: [(usize, &[usize]); 4] = [(8, &GROUPS), (64, &[1, 3, 9]), (96, &[1]), (128, &[1, 4])];

/// Which of the model's heads are attended with.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Which {
    All,
    Kept,
    Dropped,
}

#[derive(Debug, Clone)]
struct Attention {
    head_dim: usize,
    kv_heads: usize,
    group: usize,
    samples: usize,
    length: usize,
    /// Slots before a sample's first query, at most.
    past: usize,
    capacity: usize,
    which: Which,
    /// The heads of the choice that `which` names.
    heads: Vec<usize>,
    out_row: usize,
    /// Scores reach about this.
    reach: f32,
    window: Option<usize>,
    /// Whether the slots hold the queries' own tokens.
    gathered: bool,
}

fn attention_cases(device: &Device) -> Vec<Attention> {
    let mut random = Random(20);
    let mut cases = Vec::new();
    // Up to 4 queries and more take different variants.
    let shapes: [(&[usize], usize); 5] =
        [(&[1, 2, 4], 40), (&[1], 1000), (&[3, 4], 0), (&[5, 7, 31], 40), (&[33, 65], 9)];
    let pairs = ATTENTION.iter().flat_map(|&(head_dim, groups)| groups.iter().map(move |&group| (head_dim, group)));
    for ((head_dim, group), (lengths, past)) in pairs.flat_map(|pair| shapes.map(|shape| (pair, shape))) {
        let gathered = random.below(4) == 0;
        let (length, past, kv_heads) = (random.pick(lengths), random.below(past + 1), 1 + random.below(3));
        let past = if gathered { 0 } else { past };
        let reaches = [None, None, Some(1), Some(2 + random.below(past + length)), Some(1 << 30)];
        let model_heads = kv_heads * group;
        let which = random.pick(&[Which::All, Which::Kept, Which::Dropped]);
        let chosen = random.some(model_heads).iter().map(|&head| head as usize).collect();
        cases.push(Attention {
            head_dim,
            kv_heads,
            group,
            samples: 1 + random.below(3),
            length,
            past,
            capacity: past + length + random.below(20),
            which,
            heads: if which == Which::All { (0..model_heads).collect() } else { chosen },
            out_row: random.below(3),
            reach: random.pick(&[1.0, 10.0, 1000.0, 0.0]),
            window: random.pick(&reaches),
            gathered,
        });
    }
    device.thin(cases)
}

/// Of every element of the output: how far two computations may be apart. A score is a sum of head_dim products and its
/// error multiplies its weight, as do the errors of its exp and of the shrinkings since (a running maximum of n scores
/// rises about ln n times); weights enter the mix and its divisor.
fn attention_tolerance(case: &Attention, q: &[f32], (k, v): (&[f32], &[f32]), reached: &[(usize, usize)]) -> Vec<f64> {
    let (d, heads) = (case.head_dim, &case.heads);
    let root = (d as f64).sqrt();
    let mut tolerance = Vec::with_capacity(q.len());
    for (index, q) in q.chunks_exact(d).enumerate() {
        let (token, head) = (index / heads.len(), heads[index % heads.len()]);
        let first = (token / case.length * case.kv_heads + head / case.group) * case.capacity;
        let (lowest, last) = reached[token];
        let seen = last + 1 - lowest;
        let rows = |cache: &[f32]| cache[(first + lowest) * d..][..seen * d].to_vec();
        let (keys, values) = (rows(k), rows(v));
        let products = |key: &[f32]| -> Vec<f64> { q.iter().zip(key).map(|(q, k)| f64::from(q * k) / root).collect() };
        let terms: Vec<Vec<f64>> = keys.chunks_exact(d).map(products).collect();
        let scores: Vec<f64> = terms.iter().map(|terms| terms.iter().sum()).collect();
        let top = scores.iter().copied().fold(f64::MIN, f64::max);
        let total: f64 = scores.iter().map(|score| (score - top).exp()).sum();
        let rises = (seen as f64).ln() + 1.0;
        let weights: Vec<f64> = scores.iter().map(|score| (score - top).exp() / total).collect();
        let offs: Vec<f64> = (terms.iter().zip(&scores))
            .map(|(terms, score)| {
                let size: f64 = terms.iter().map(|term| term.abs()).sum();
                (summing(d) + 2.0 * EPS) * size + exp_error(score - top) + rises * exp_error(0.0)
            })
            .collect();
        let off: f64 = weights.iter().zip(&offs).map(|(weight, off)| weight * off).sum();
        for i in 0..d {
            let value = |slot: usize| f64::from(values[slot * d + i]).abs();
            let size: f64 = (0..seen).map(|slot| weights[slot] * value(slot)).sum();
            let mixed: f64 = (0..seen).map(|slot| weights[slot] * offs[slot] * value(slot)).sum();
            tolerance.push(mixed + size * (off + 2.0 * summing(seen) + QUOTIENT) + TINY);
        }
    }
    tolerance
}

pub fn attention(device: &Device) {
    let mut random = Random(21);
    for case in &attention_cases(device) {
        let Attention { head_dim, kv_heads, group, samples, length, capacity, .. } = *case;
        let tokens = samples * length;
        let pasts: Vec<u32> = (0..samples).map(|_| random.below(case.past + 1) as u32).collect();
        let slots: Vec<u32> = (0..tokens).map(|t| pasts[t / length] + (t % length) as u32).collect();
        // Gathered tokens stand at positions of their own, which ascend.
        let mut position = 0;
        let places: Vec<[u32; 2]> = (slots.iter().enumerate())
            .map(|(t, &slot)| {
                position = if t % length == 0 { 7 } else { position + 1 + random.below(5) as u32 };
                [if case.gathered { position } else { slot + 7 }, slot]
            })
            .collect();
        let window = case.window.unwrap_or(usize::MAX);
        let reached: Vec<(usize, usize)> = (0..tokens)
            .map(|t| {
                let [position, slot] = places[t].map(|value| value as usize);
                let at = |other: usize| places[t - t % length + other][0] as usize;
                let first = match case.gathered {
                    true => (0..=slot).find(|&other| position - at(other) < window).unwrap_or(slot),
                    false => (slot + 1).saturating_sub(window),
                };
                (first, slot)
            })
            .collect();
        let size = (case.reach / (head_dim as f32).sqrt() * 3.0).sqrt();
        let q = random.values(tokens * case.heads.len() * head_dim, size);
        let behind = random.below(3);
        // Slots past a sample's last query must not be read, nor those that the window of its first does not reach.
        let mut cache = |size: f32| {
            let mut cache = random.values(samples * kv_heads * capacity * head_dim, size);
            for (row, rows) in cache.chunks_exact_mut(capacity * head_dim).enumerate() {
                let used = pasts[row / kv_heads] as usize + length;
                rows[used * head_dim..].fill(f32::POISON);
                rows[..reached[row / kv_heads * length].0 * head_dim].fill(f32::POISON);
            }
            cache
        };
        let (k, v) = (cache(size), cache(2.0));
        let mut place_of = vec![0; kv_heads * group];
        let (mut kept, mut dropped) = (0, 0);
        for (head, place) in place_of.iter_mut().enumerate() {
            let chosen = case.heads.contains(&head) == (case.which != Which::Dropped);
            let (count, mark) = if chosen { (&mut kept, 0) } else { (&mut dropped, DROPPED) };
            *place = *count + mark;
            *count += 1;
        }
        let stride = case.heads.len() + behind;
        let rows = widen(&q, case.heads.len() * head_dim, stride * head_dim, f32::POISON);
        let [q_buffer, kv_buffer] =
            [&rows, &slots_of((&k, &v), kv_heads, capacity, head_dim)].map(|values| device.input(values, 0));
        let (places, place_of) = (device.pairs(&places), device.input(&place_of, 0));
        let width = case.heads.len() * head_dim;
        let out = device.output::<f32>(q.len(), case.out_row * width);
        let queries = Queries {
            q: &q_buffer,
            stride,
            places: &places,
            samples,
            length,
            heads: case.heads.len(),
            model_heads: kv_heads * group,
            members: match case.which {
                Which::All => Members::All,
                Which::Kept => Members::Kept(&place_of),
                Which::Dropped => Members::Dropped(&place_of),
            },
            window: case.window,
            gathered: case.gathered,
        };
        let filled = reached.iter().map(|&(_, last)| last + 1).max().unwrap_or(0);
        let cache = Cache { buffer: &kv_buffer, kv_heads, capacity, fresh: 0, filled, head_dim };
        device.run(case, |recorder| {
            let out = kernels::Rows { buffer: &out, first: case.out_row as u32 };
            kernels::attention::record(recorder, queries, cache, out)
        });
        let shape = (length, kv_heads, capacity, head_dim);
        let expected = kernels::attention::twin(&q, (&k, &v), &reached, (&case.heads, group), shape);
        let tolerance = attention_tolerance(case, &q, (&k, &v), &reached);
        device.compare(case, "out", (&out, case.out_row * width), &expected, |i| tolerance[i]);
    }
}

/// Keys and values `[sample][kv_heads][capacity][head_dim]` as a [`Cache`] holds them.
fn slots_of((k, v): (&[f32], &[f32]), kv_heads: usize, capacity: usize, head_dim: usize) -> Vec<f32> {
    let rows = k.len() / (kv_heads * head_dim);
    let part = |values: &[f32], row: usize| -> Vec<f32> {
        let (sample, slot) = (row / capacity, row % capacity);
        let head = |head: usize| &values[((sample * kv_heads + head) * capacity + slot) * head_dim..][..head_dim];
        (0..kv_heads).flat_map(head).copied().collect()
    };
    (0..rows).flat_map(|row| [part(k, row), part(v, row)].concat()).collect()
}

/// A cache that grows by prompts and by tokens, of samples that differ in length: attention finds in it what was appended, wherever it is
/// fetched from, and whatever part of a texture's row a slot comes to lie in.
#[test]
fn attention_finds_what_was_appended() {
    let mut random = Random(25);
    for tier in [Tier::Software, Tier::Gpu] {
        let device = super::device(tier, super::Manner::Trusted);
        // Of a few tokens rope keeps the mirror itself where four pairs of elements are whole texels: not of heads of 12.
        for (head_dim, kv_heads, samples, behind, adjacent, normed) in [
            (64, 3, 1, 0, false, false),
            (64, 3, 2, 3, true, false),
            (8, 1, 3, 1, false, true),
            (64, 8, 1, 0, true, true),
            (12, 2, 1, 0, true, false),
            (12, 3, 2, 1, false, true),
        ] {
            let case = (tier, head_dim, kv_heads, samples, behind, adjacent, normed);
            let steps = [70, 1, 2, 90, 1];
            let capacity = steps.iter().sum::<usize>() + 11;
            let bytes = 4 * (samples * capacity * Cache::slot(kv_heads, head_dim)) as u64;
            let buffer = device.gpu.mirrored("cache", Contents::Zeroed(bytes)).expect("a buffer");
            let (table, table_buffer) = turns(device, head_dim, capacity);
            let mut halves = [0; 2].map(|_| vec![0.0; samples * kv_heads * capacity * head_dim]);
            // Every sample is so many slots behind the one before it.
            let mut before: Vec<usize> = (0..samples).map(|sample| (samples - 1 - sample) * behind).collect();
            let own: Vec<usize> = (0..kv_heads).collect();
            let scales = random.values(2 * head_dim, 1.0);
            let (scale_buffer, eps) = (device.input(&scales, 0), 1e-6);
            for length in steps {
                let tokens = samples * length;
                let places: Vec<[u32; 2]> =
                    (0..tokens).map(|t| [(before[t / length] + t % length) as u32; 2]).collect();
                let slots: Vec<u32> = places.iter().map(|&[_, slot]| slot).collect();
                let mut parts = [0; 3].map(|_| random.values(tokens * kv_heads * head_dim, 1.0));
                let row = kv_heads * head_dim;
                let x: Vec<f32> = (0..tokens)
                    .flat_map(|t| parts.iter().flat_map(move |part| &part[t * row..(t + 1) * row]))
                    .copied()
                    .collect();
                let (x, places) = (device.in_out(&x, 0), device.pairs(&places));
                let first = before.iter().min().copied().expect("samples");
                let filled = before.iter().max().expect("samples") + length;
                let cache = Cache { buffer: &buffer, kv_heads, capacity, fresh: first, filled, head_dim };
                let out = device.output::<f32>(tokens * row, 0);
                device.run(&case, |recorder| {
                    let (bias, norms, no_rope) = (None, normed.then_some(&scale_buffer), false);
                    let turns = Turns { table: &table_buffer, head_dim, adjacent, bias, norms, eps, no_rope };
                    let in_row = Heads { queries: kv_heads, keys: kv_heads, list: None };
                    kernels::rope_append::record(recorder, &x, in_row, &places, turns, cache, (samples, length))?;
                    let queries = Queries {
                        q: &x,
                        stride: 3 * kv_heads,
                        places: &places,
                        samples,
                        length,
                        heads: kv_heads,
                        model_heads: kv_heads,
                        members: Members::All,
                        window: None,
                        gathered: false,
                    };
                    kernels::attention::record(recorder, queries, cache, (&out).into())
                });
                let [q, k, v] = &mut parts;
                if normed {
                    kernels::rope_append::norm_twin(q, &scales[..head_dim], eps);
                    kernels::rope_append::norm_twin(k, &scales[head_dim..], eps);
                }
                kernels::rope_append::turn_twin(q, &slots, &table, kv_heads, head_dim, adjacent);
                kernels::rope_append::turn_twin(k, &slots, &table, kv_heads, head_dim, adjacent);
                let shape = (length, kv_heads, capacity, head_dim);
                kernels::rope_append::append_twin(k, &mut halves[0], &slots, &own, shape);
                kernels::rope_append::append_twin(v, &mut halves[1], &slots, &own, shape);
                let seen: Vec<(usize, usize)> = slots.iter().map(|&slot| (0, slot as usize)).collect();
                let expected = kernels::attention::twin(q, (&halves[0], &halves[1]), &seen, (&own, 1), shape);
                // Scores of some units, mixed values below 1: a slot that is not there is off by thousands of times as much.
                device.compare(&case, "out", (&out, 0), &expected, |_| 1e-5);
                before.iter_mut().for_each(|before| *before += length);
            }
        }
    }
}

/// Rope's frequencies for heads of `head_dim`, and the table for `positions`.
fn turns(device: &Device, head_dim: usize, positions: usize) -> (Vec<[f32; 2]>, Buffer) {
    let frequencies: Vec<f32> = (0..head_dim / 2).map(|i| 10000f32.powf(-2.0 * i as f32 / head_dim as f32)).collect();
    let table = kernels::rope_append::table(&frequencies, positions);
    let words: Vec<u32> = table.iter().flatten().map(|value| value.to_bits()).collect();
    let buffer = device.gpu.fetched("turns", &words, 4).expect("a table");
    (table, buffer)
}

/// Of a turned element: two products and a sum of numbers up to `magnitude`, fused or not.
fn turning(magnitude: f32) -> f64 {
    summing(2) * 2.0 * f64::from(magnitude)
}

pub fn rope_append(device: &Device) {
    sweep_rope(device, 22, false);
}

pub fn rope_append_normed(device: &Device) {
    sweep_rope(device, 23, true);
}

/// Every way in which heads are turned, of heads that are normed before or not.
fn sweep_rope(device: &Device, seed: u64, normed: bool) {
    let mut random = Random(seed);
    let mut cases = Vec::new();
    for head_dim in HEAD_DIMS {
        for (samples, length) in [(1, 1), (1, 33), (3, 7), (2, 31), (1, 257)] {
            for (queries, kv_heads) in [(1, 1), (9, 3), (5, 8)] {
                // None of the keys, all of them, or a list of some with entries of nobody.
                let some = (1 + random.below(kv_heads), random.below(3));
                let keys = random.pick(&[None, Some(None), Some(Some(some))]);
                let (biased, no_rope) = (!normed && random.below(2) == 1, random.below(4) == 0);
                let adjacent = random.below(2) == 1;
                cases.push((head_dim, (samples, length), (queries, kv_heads), keys, (adjacent, no_rope), biased));
            }
        }
    }
    for case in device.thin(cases) {
        let (head_dim, (samples, length), (queries, kv_heads), keys, (adjacent, no_rope), biased) = case;
        let listed = matches!(keys, Some(Some(_))) || (keys.is_none() && random.below(2) == 1);
        let model_heads = queries + if listed { random.below(4) } else { 0 };
        let (tokens, capacity) = (samples * length, length + 5);
        let magnitude = random.pick(&[1.0, 1e18, 0.0]);
        let heads: Vec<u32> = match keys {
            None => Vec::new(),
            Some(None) => (0..kv_heads as u32).collect(),
            Some(Some((count, nobody))) => {
                // The list names rows of q, k and v stacked: nobody's lie anywhere past the keys.
                let past = [kv_heads as u32, qkv_list::NOBODY - model_heads as u32];
                [&random.subset(kv_heads, count)[..], &past[..nobody]].concat()
            }
        };
        let names = |first: usize| heads.iter().map(move |head| head + first as u32).collect::<Vec<u32>>();
        let kept = random.subset(model_heads, queries);
        let list = [kept.clone(), names(model_heads), names(model_heads + kv_heads)].concat();
        let (table, table_buffer) = turns(device, head_dim, 3000);
        // A batch starts anywhere; a probe's tokens stand at positions that are not their slots.
        let start = random.below(6);
        let places: Vec<[u32; 2]> =
            (0..tokens).map(|t| [random.below(3000) as u32, (start + t % length) as u32]).collect();
        let (positions, slots): (Vec<u32>, Vec<u32>) = places.iter().map(|&[position, slot]| (position, slot)).unzip();
        let bias = random.values((model_heads + 2 * kv_heads) * head_dim, magnitude);
        let scales = random.values(2 * head_dim, 2.0);
        let (bias_buffer, scale_buffer) = (device.input(&bias, 0), device.input(&scales, 0));
        let mut q = random.values(tokens * queries * head_dim, magnitude);
        let [mut k, mut v] = [0; 2].map(|_| random.values(tokens * heads.len() * head_dim, magnitude));
        let mut caches = [0; 2].map(|_| random.values(samples * kv_heads * capacity * head_dim, 1.0));
        let cached = |[k, v]: &[Vec<f32>; 2]| slots_of((k, v), kv_heads, capacity, head_dim);
        let kv_cache = device.in_out(&cached(&caches), 0);
        let (raw_k, raw_v) = (k.clone(), v.clone());
        let stacked = |q: &[f32]| -> Vec<f32> {
            let row = |t: usize, part: &[f32], heads: usize| part[t * heads * head_dim..][..heads * head_dim].to_vec();
            (0..tokens)
                .flat_map(|t| [row(t, q, queries), row(t, &raw_k, heads.len()), row(t, &raw_v, heads.len())].concat())
                .collect()
        };
        let x = device.in_out(&stacked(&q), 0);
        let (places, list) = (device.pairs(&places), device.input(&list, 0));
        let eps = 1e-6;
        device.run(&case, |recorder| {
            let (bias, norms) = (biased.then_some(&bias_buffer), normed.then_some(&scale_buffer));
            let turns = Turns { table: &table_buffer, head_dim, adjacent, bias, norms, eps, no_rope };
            let in_row = Heads { queries, keys: heads.len(), list: listed.then_some((&list, model_heads)) };
            let cache = Cache { buffer: &kv_cache, kv_heads, capacity, fresh: 0, filled: capacity, head_dim };
            kernels::rope_append::record(recorder, &x, in_row, &places, turns, cache, (samples, length))
        });
        let rows = |names: &[u32]| names.iter().map(|&name| name as usize).collect::<Vec<usize>>();
        let own = rows(&heads);
        if biased && !heads.is_empty() {
            kernels::rope_append::bias_twin(&mut k, &bias, &rows(&names(model_heads)), head_dim);
            kernels::rope_append::bias_twin(&mut v, &bias, &rows(&names(model_heads + kv_heads)), head_dim);
        }
        if biased {
            kernels::rope_append::bias_twin(&mut q, &bias, &rows(&kept), head_dim);
        }
        if normed {
            kernels::rope_append::norm_twin(&mut q, &scales[..head_dim], eps);
            kernels::rope_append::norm_twin(&mut k, &scales[head_dim..], eps);
        }
        // A norm errs as in its own sweep; turning adds what it adds to elements of that size.
        let off = |x: &[f32]| {
            let most = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let norm = summing(head_dim) / 2.0 + ROOT + 2.0 * QUOTIENT + 3.0 * EPS;
            turning(most) + if normed { 2.0 * norm * f64::from(most) + TINY } else { 0.0 }
        };
        let (of_q, of_k) = (off(&q), off(&k));
        if !no_rope {
            kernels::rope_append::turn_twin(&mut q, &positions, &table, queries, head_dim, adjacent);
        }
        // Keys and values stay in x as they were: only the cache has them turned.
        let row = (queries + 2 * heads.len()) * head_dim;
        let of_x = |i: usize| if i % row < queries * head_dim { of_q } else { 0.0 };
        device.compare(&case, "x", (&x, 0), &stacked(&q), of_x);
        if !heads.is_empty() {
            if !no_rope {
                kernels::rope_append::turn_twin(&mut k, &positions, &table, heads.len(), head_dim, adjacent);
            }
            let shape = (length, kv_heads, capacity, head_dim);
            kernels::rope_append::append_twin(&k, &mut caches[0], &slots, &own, shape);
            kernels::rope_append::append_twin(&v, &mut caches[1], &slots, &own, shape);
        }
        // Of keys, which stand before values in every slot.
        let half = kv_heads * head_dim;
        let of_cache = |i: usize| if (i / half).is_multiple_of(2) { of_k } else { exact(i) };
        device.compare(&case, "keys and values", (&kv_cache, 0), &cached(&caches), of_cache);
    }
}

pub fn qkv_list(device: &Device) {
    let mut random = Random(24);
    let mut cases = Vec::new();
    for (group, kv_heads) in GROUPS.iter().flat_map(|&group| [1, 2, 3, 8].map(|kv_heads| (group, kv_heads))) {
        let model_heads = group * kv_heads;
        for count in [1, 1 + random.below(model_heads), model_heads] {
            cases.push((group, kv_heads, count));
        }
    }
    for case in device.thin(cases) {
        let (group, kv_heads, count) = case;
        let kept = random.subset(group * kv_heads, count);
        let (entries, model) = (kernels::qkv_list::entries(count, kv_heads), (group * kv_heads, group));
        let (input, list) = (device.input(&kept, 0), device.output::<u32>(count + 2 * entries, 0));
        device.run(&case, |recorder| kernels::qkv_list::record(recorder, (&input, count), (&list, entries), model));
        device.compare(&case, "list", (&list, 0), &kernels::qkv_list::twin(&kept, entries, model), exact);
    }
}

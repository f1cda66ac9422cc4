//! Sweeps of the ops around the cache of keys and values.

use super::harness::{Device, EPS, Element, QUOTIENT, Random, TINY, exact, exp_error, summing, widen};
use secateur::gpu::Buffer;
use secateur::kernels::attention::{Members, Queries};
use secateur::kernels::rope_append::{Heads, Turns};
use secateur::kernels::{self, Cache, qkv_list, top_k::DROPPED};

const HEAD_DIMS: [usize; 3] = [8, 64, 128];
const GROUPS: [usize; 5] = [1, 2, 3, 4, 9];

/// Groups by head size: pipelines of attention take seconds to compile on software adapters, the wide ones most.
const ATTENTION: [(usize, &[usize]); 3] = [(8, &GROUPS), (64, &[1, 3, 9]), (128, &[1, 4])];

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
}

fn attention_cases(device: &Device) -> Vec<Attention> {
    let mut random = Random(20);
    let mut cases = Vec::new();
    // Up to 4 queries and more take different variants.
    let shapes: [(&[usize], usize); 5] =
        [(&[1, 2, 4], 40), (&[1], 1000), (&[3, 4], 0), (&[5, 7, 31], 40), (&[33, 65], 9)];
    let pairs = ATTENTION.iter().flat_map(|&(head_dim, groups)| groups.iter().map(move |&group| (head_dim, group)));
    for ((head_dim, group), (lengths, past)) in pairs.flat_map(|pair| shapes.map(|shape| (pair, shape))) {
        let (length, past, kv_heads) = (random.pick(lengths), random.below(past + 1), 1 + random.below(3));
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
        });
    }
    device.thin(cases)
}

/// Of every element of the output: how far two computations may be apart. A score is a sum of head_dim products and its
/// error multiplies its weight, as do the errors of its exp and of the shrinkings since (a running maximum of n scores
/// rises about ln n times); weights enter the mix and its divisor.
fn attention_tolerance(case: &Attention, q: &[f32], (k, v): (&[f32], &[f32]), slots: &[u32]) -> Vec<f64> {
    let (d, heads) = (case.head_dim, &case.heads);
    let root = (d as f64).sqrt();
    let mut tolerance = Vec::with_capacity(q.len());
    for (index, q) in q.chunks_exact(d).enumerate() {
        let (token, head) = (index / heads.len(), heads[index % heads.len()]);
        let first = (token / case.length * case.kv_heads + head / case.group) * case.capacity;
        let seen = slots[token] as usize + 1;
        let rows = |cache: &[f32]| cache[first * d..][..seen * d].to_vec();
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
        let places: Vec<[u32; 2]> = slots.iter().map(|&slot| [slot + 7, slot]).collect();
        let size = (case.reach / (head_dim as f32).sqrt() * 3.0).sqrt();
        let q = random.values(tokens * case.heads.len() * head_dim, size);
        let behind = random.below(3);
        // Slots past a sample's last query must not be read.
        let mut cache = |size: f32| {
            let mut cache = random.values(samples * kv_heads * capacity * head_dim, size);
            for (row, rows) in cache.chunks_exact_mut(capacity * head_dim).enumerate() {
                let used = pasts[row / kv_heads] as usize + length;
                rows[used * head_dim..].fill(f32::POISON);
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
        let [q_buffer, k_buffer, v_buffer] = [&rows, &k, &v].map(|values| device.input(values, 0));
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
        };
        let cache = Cache { k: &k_buffer, v: &v_buffer, kv_heads, capacity, head_dim };
        device.run(case, |recorder| {
            let out = kernels::Rows { buffer: &out, first: case.out_row as u32 };
            kernels::attention::record(recorder, queries, cache, out)
        });
        let shape = (length, kv_heads, capacity, head_dim);
        let expected = kernels::attention::twin(&q, (&k, &v), &slots, (&case.heads, group), shape);
        let tolerance = attention_tolerance(case, &q, (&k, &v), &slots);
        device.compare(case, "out", (&out, case.out_row * width), &expected, |i| tolerance[i]);
    }
}

/// Rope's frequencies for heads of `head_dim`, and the table for `positions`.
fn turns(device: &Device, head_dim: usize, positions: usize) -> (Vec<[f32; 2]>, Buffer) {
    let frequencies: Vec<f32> = (0..head_dim / 2).map(|i| 10000f32.powf(-2.0 * i as f32 / head_dim as f32)).collect();
    let table = kernels::rope_append::table(&frequencies, positions);
    let buffer = device.pairs(&table);
    (table, buffer)
}

/// Of a turned element: two products and a sum of numbers up to `magnitude`, fused or not.
fn turning(magnitude: f32) -> f64 {
    summing(2) * 2.0 * f64::from(magnitude)
}

pub fn rope_append(device: &Device) {
    let mut random = Random(22);
    let mut cases = Vec::new();
    for head_dim in HEAD_DIMS {
        for (samples, length) in [(1, 1), (1, 33), (3, 7), (2, 31), (1, 257)] {
            for (queries, kv_heads) in [(1, 1), (9, 3), (5, 8)] {
                // None of the keys, all of them, or a list of some with entries of nobody.
                let some = (1 + random.below(kv_heads), random.below(3));
                let keys = random.pick(&[None, Some(None), Some(Some(some))]);
                cases.push((head_dim, (samples, length), (queries, kv_heads), keys, random.below(2) == 1));
            }
        }
    }
    for case in device.thin(cases) {
        let (head_dim, (samples, length), (queries, kv_heads), keys, adjacent) = case;
        let model_heads = queries + random.below(4);
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
        let names = |first: usize| heads.iter().map(move |head| head + first as u32);
        let list: Vec<u32> =
            (0..queries as u32).chain(names(model_heads)).chain(names(model_heads + kv_heads)).collect();
        let (table, table_buffer) = turns(device, head_dim, 3000);
        // A batch starts anywhere; a probe's tokens stand at positions that are not their slots.
        let start = random.below(6);
        let places: Vec<[u32; 2]> =
            (0..tokens).map(|t| [random.below(3000) as u32, (start + t % length) as u32]).collect();
        let (positions, slots): (Vec<u32>, Vec<u32>) = places.iter().map(|&[position, slot]| (position, slot)).unzip();
        let mut q = random.values(tokens * queries * head_dim, magnitude);
        let [mut k, v] = [0; 2].map(|_| random.values(tokens * heads.len() * head_dim, magnitude));
        let mut caches = [0; 2].map(|_| random.values(samples * kv_heads * capacity * head_dim, 1.0));
        let [k_cache, v_cache] = [0, 1].map(|i| device.in_out(&caches[i], 0));
        let stacked = |q: &[f32]| -> Vec<f32> {
            let row = |t: usize, part: &[f32], heads: usize| part[t * heads * head_dim..][..heads * head_dim].to_vec();
            (0..tokens)
                .flat_map(|t| [row(t, q, queries), row(t, &k, heads.len()), row(t, &v, heads.len())].concat())
                .collect()
        };
        let x = device.in_out(&stacked(&q), 0);
        let (places, list) = (device.pairs(&places), device.input(&list, 0));
        let listed = matches!(keys, Some(Some(_)));
        device.run(&case, |recorder| {
            let turns = Turns { table: &table_buffer, head_dim, adjacent };
            let in_row = Heads { queries, keys: heads.len(), list: listed.then_some((&list, model_heads)) };
            let cache = Cache { k: &k_cache, v: &v_cache, kv_heads, capacity, head_dim };
            kernels::rope_append::record(recorder, &x, in_row, &places, turns, cache, (samples, length))
        });
        kernels::rope_append::turn_twin(&mut q, &positions, &table, queries, head_dim, adjacent);
        // Keys and values stay in x as they were: only the cache has them turned.
        device.compare(&case, "x", (&x, 0), &stacked(&q), |_| turning(magnitude));
        if !heads.is_empty() {
            kernels::rope_append::turn_twin(&mut k, &positions, &table, heads.len(), head_dim, adjacent);
            let shape = (length, kv_heads, capacity, head_dim);
            let heads: Vec<usize> = heads.iter().map(|&head| head as usize).collect();
            kernels::rope_append::append_twin(&k, &mut caches[0], &slots, &heads, shape);
            kernels::rope_append::append_twin(&v, &mut caches[1], &slots, &heads, shape);
        }
        device.compare(&case, "keys", (&k_cache, 0), &caches[0], |_| turning(magnitude));
        device.compare(&case, "values", (&v_cache, 0), &caches[1], exact);
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

// softmax(q k^T * scale) v over the cached slots up to the query's own, or those that its window reaches, by online
// softmax. An invocation has one query of FOLD heads that share a kv head, and every LS-th slot; LS > 1 spreads the slots
// of a single query over a workgroup.
struct Params {
    length: u32,   // queries of a sample
    heads: u32,    // query heads in q and out
    q_heads: u32,  // heads of a row of q, whatever lies behind the query heads
    kv_heads: u32, // heads of the cache
    group: u32,    // query heads of a kv head, in the whole model
    capacity: u32, // slots of the cache
    mapped: u32,   // which of the model's heads are in q: 0 all, 1 the kept ones of `place_of`, 2 the dropped ones
    out_row: u32,  // first row of out
    scale: f32,
    window: u32,   // positions that a query sees, its own among them; 0 = all up to its own
    gathered: u32, // whether slots hold the queries' own tokens; otherwise a slot is a position
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k_cache: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v_cache: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> places: array<vec2<u32>>; // position and slot of every query
@group(0) @binding(4) var<storage, read> place_of: array<u32>;
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

const D4 = ${D4}u;
const FOLD = ${FOLD}u;
const LQ = ${LQ}u;
const LS = ${LS}u;
const NOBODY = 0xffffffffu;
const DROPPED = 0x80000000u; // see top_k
const LOWEST = -3.0e38;

var<workgroup> tops: array<f32, ${STATES}>;
var<workgroup> sums: array<f32, ${STATES}>;
var<workgroup> partial: array<vec4<f32>, ${PARTIALS}>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let folds = (p.group + FOLD - 1u) / FOLD;
    let kv = group.z / folds;
    let ls = lane % LS;
    let t = group.x * LQ + lane / LS;
    let token = group.y * p.length + min(t, p.length - 1u);

    var heads: array<u32, FOLD>;
    var present = 0u;
    var query: array<vec4<f32>, ${FOLD_D4}>;
    for (var f = 0u; f < FOLD; f++) {
        let member = group.z % folds * FOLD + f;
        var head = kv * p.group + member;
        var here = member < p.group;
        if p.mapped != 0u && here {
            let place = place_of[head];
            here = (place >= DROPPED) == (p.mapped == 2u);
            head = place % DROPPED;
        }
        heads[f] = select(NOBODY, head, here);
        if here {
            present += 1u;
            for (var i = 0u; i < D4; i++) {
                query[f * D4 + i] = q[(token * p.q_heads + head) * D4 + i] * p.scale;
            }
        }
    }

    if present == 0u {
        return; // the same for the whole workgroup: none of these heads is wanted
    }

    var top: array<f32, FOLD>;
    var sum: array<f32, FOLD>;
    var mixed: array<vec4<f32>, ${FOLD_D4}>;
    for (var f = 0u; f < FOLD; f++) {
        top[f] = LOWEST;
    }
    let row = (group.y * p.kv_heads + kv) * p.capacity;
    let place = places[token];
    var first = 0u;
    if p.window != 0u {
        if p.gathered != 0u {
            // Positions ascend; the query's own is within reach.
            while first < place.y && place.x - places[group.y * p.length + first].x >= p.window {
                first += 1u;
            }
        } else {
            first = max(place.y + 1u, p.window) - p.window;
        }
    }
    for (var slot = first + ls; slot <= place.y; slot += LS) {
        let at = (row + slot) * D4;
        var key: array<vec4<f32>, D4>;
        var value: array<vec4<f32>, D4>;
        for (var i = 0u; i < D4; i++) {
            key[i] = k_cache[at + i];
            value[i] = v_cache[at + i];
        }
        for (var f = 0u; f < FOLD; f++) {
            var score = 0.0;
            for (var i = 0u; i < D4; i++) {
                score += dot(query[f * D4 + i], key[i]);
            }
            let higher = max(top[f], score);
            let shrink = exp(top[f] - higher);
            let weight = exp(score - higher);
            top[f] = higher;
            sum[f] = sum[f] * shrink + weight;
            for (var i = 0u; i < D4; i++) {
                mixed[f * D4 + i] = mixed[f * D4 + i] * shrink + value[i] * weight;
            }
        }
    }

    for (var f = 0u; f < FOLD; f++) {
        if LS > 1u {
            workgroupBarrier();
            tops[lane] = top[f];
            sums[lane] = sum[f];
            for (var i = 0u; i < D4; i++) {
                partial[i * LS + lane] = mixed[f * D4 + i];
            }
            workgroupBarrier();
            var highest = LOWEST;
            for (var l = 0u; l < LS; l++) {
                highest = max(highest, tops[l]);
            }
            var total = 0.0;
            for (var l = 0u; l < LS; l++) {
                total += sums[l] * exp(tops[l] - highest);
            }
            if heads[f] != NOBODY {
                for (var i = lane; i < D4; i += LS) {
                    var value = vec4<f32>();
                    for (var l = 0u; l < LS; l++) {
                        value += partial[i * LS + l] * exp(tops[l] - highest);
                    }
                    out[((p.out_row + token) * p.heads + heads[f]) * D4 + i] = value / total;
                }
            }
        } else if heads[f] != NOBODY && t < p.length {
            for (var i = 0u; i < D4; i++) {
                out[((p.out_row + token) * p.heads + heads[f]) * D4 + i] = mixed[f * D4 + i] / sum[f];
            }
        }
    }
}

// softmax(q k^T * scale) v over the cached slots up to the query's own, or those that its window reaches, by online
// softmax. An invocation has one query of FOLD heads that share a kv head, and every LS-th slot; LS > 1 spreads the slots
// of a single query over a workgroup.
#import attention_query

const D4 = ${D4}u;
const FOLD = ${FOLD}u;
const LQ = ${LQ}u;
const LS = ${LS}u;

var<workgroup> tops: array<f32, ${STATES}>;
var<workgroup> sums: array<f32, ${STATES}>;
var<workgroup> partial: array<vec4<f32>, ${PARTIALS}>;

// Four elements of a token's row.
fn put(token: u32, i: u32, value: vec4<f32>) {
    let at = (p.out_row + token) * p.heads * D4 + i;
    out[at] = value;
    beside(at, value);
}

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
        var head = NOBODY;
        if member < p.group {
            head = head_in_q(kv * p.group + member);
        }
        heads[f] = head;
        if head != NOBODY {
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
    let place = places[token];
    let first = first_slot(group.y, place);
    for (var slot = first + ls; slot <= place.y; slot += LS) {
        let at = key_at(group.y, slot, kv, D4);
        var key: array<vec4<f32>, D4>;
        var value: array<vec4<f32>, D4>;
        for (var i = 0u; i < D4; i++) {
            key[i] = cache(at + i);
            value[i] = cache(at + value_behind(D4) + i);
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
                    put(token, heads[f] * D4 + i, value / total);
                }
            }
        } else if heads[f] != NOBODY && t < p.length {
            for (var i = 0u; i < D4; i++) {
                put(token, heads[f] * D4 + i, mixed[f * D4 + i] / sum[f]);
            }
        }
    }
}

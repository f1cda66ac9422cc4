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

// Where the `member`-th of the heads that share `kv` is in q, or NOBODY.
fn member_in_q(kv: u32, member: u32) -> u32 {
    if member >= p.group {
        return NOBODY;
    }
    return head_in_q(kv * p.group + member);
}

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

    // Heads are written out one by one: sums of all of them in one array are more than some drivers keep in registers.
    var present = 0u;
#repeat f FOLD
    let head_${f} = member_in_q(kv, group.z % folds * FOLD + ${f}u);
    present += u32(head_${f} != NOBODY);
    var query_${f}: array<vec4<f32>, D4>;
    if LS > 1u {
        // The workgroup has one query: it is loaded by all together.
        workgroupBarrier();
        if head_${f} != NOBODY {
            for (var i = lane; i < D4; i += LS) {
                partial[i] = q[(token * p.q_heads + head_${f}) * D4 + i] * p.scale;
            }
        }
        workgroupBarrier();
        for (var i = 0u; i < D4; i++) {
            query_${f}[i] = partial[i];
        }
    } else if head_${f} != NOBODY {
        for (var i = 0u; i < D4; i++) {
            query_${f}[i] = q[(token * p.q_heads + head_${f}) * D4 + i] * p.scale;
        }
    }
#end

#repeat f FOLD
    var top_${f} = LOWEST;
    var sum_${f} = 0.0;
    var mixed_${f}: array<vec4<f32>, D4>;
#end
    let place = places[token];
    let first = first_slot(group.y, place);
    let behind = select(0u, place.y + 1u, present > 0u);
    for (var slot = first + ls; slot < behind; slot += LS) {
        let at = key_at(group.y, slot, kv, D4);
        var key: array<vec4<f32>, D4>;
        var value: array<vec4<f32>, D4>;
        for (var i = 0u; i < D4; i++) {
            key[i] = cache(at + i);
            value[i] = cache(at + value_behind(D4) + i);
        }
#repeat f FOLD
        var score_${f} = 0.0;
        for (var i = 0u; i < D4; i++) {
            score_${f} += dot(query_${f}[i], key[i]);
        }
        let higher_${f} = max(top_${f}, score_${f});
        let shrink_${f} = exp(top_${f} - higher_${f});
        let weight_${f} = exp(score_${f} - higher_${f});
        top_${f} = higher_${f};
        sum_${f} = sum_${f} * shrink_${f} + weight_${f};
        for (var i = 0u; i < D4; i++) {
            mixed_${f}[i] = mixed_${f}[i] * shrink_${f} + value[i] * weight_${f};
        }
#end
    }

#repeat f FOLD
    if LS > 1u {
        workgroupBarrier();
        tops[lane] = top_${f};
        workgroupBarrier();
        var highest = LOWEST;
        for (var l = 0u; l < LS; l++) {
            highest = max(highest, tops[l]);
        }
        let share = exp(top_${f} - highest);
        sums[lane] = sum_${f} * share;
        for (var i = 0u; i < D4; i++) {
            partial[i * LS + lane] = mixed_${f}[i] * share;
        }
        workgroupBarrier();
        var total = 0.0;
        for (var l = 0u; l < LS; l++) {
            total += sums[l];
        }
        // Every invocation adds up all elements and keeps its own: loads from where the lanes of a vector have to look in different places
        // cost some drivers a loop over them.
        var mine: array<vec4<f32>, (D4 + LS - 1u) / LS>;
#repeat i D4
        var value_${f}_${i} = vec4<f32>();
        for (var l = 0u; l < LS; l++) {
            value_${f}_${i} += partial[${i}u * LS + l];
        }
        mine[${i}u / LS] = select(mine[${i}u / LS], value_${f}_${i}, ls == ${i}u % LS);
#end
        if head_${f} != NOBODY {
            for (var i = 0u; i < D4; i += LS) {
                if i + ls < D4 {
                    put(token, head_${f} * D4 + i + ls, mine[i / LS] / total);
                }
            }
        }
    } else if head_${f} != NOBODY && t < p.length {
        for (var i = 0u; i < D4; i++) {
            put(token, head_${f} * D4 + i, mixed_${f}[i] / sum_${f});
        }
    }
#end
}

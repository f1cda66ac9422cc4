// attention for a few queries on hardware: a workgroup has one query of one head. Its invocations score a slot each, a stretch
// of slots at a time; then they share the head's elements out and add up the values of the stretch, neighbours reading neighbours.
// Nothing is held for more than a score and four elements, whatever the head's size.
#import attention_query

const D4 = ${D4}u;
const LANES = ${LANES}u;
const STRETCH = ${STRETCH}u;
const ADDERS = LANES / D4; // invocations that add up the same elements, of every so many slots

var<workgroup> query: array<vec4<f32>, D4>;
var<workgroup> weights: array<f32, STRETCH>;
var<workgroup> tallies: array<f32, LANES>;
var<workgroup> partial: array<vec4<f32>, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let token = group.y * p.length + group.x;
    let head = head_in_q(group.z);
    if head == NOBODY {
        return; // the same for the whole workgroup
    }
    for (var i = lane; i < D4; i += LANES) {
        query[i] = q[(token * p.q_heads + head) * D4 + i] * p.scale;
    }
    workgroupBarrier();

    let place = places[token];
    let kv = group.z / p.group;
    let element = lane % D4;
    var top = LOWEST;
    var sum = 0.0; // of the weights of this invocation's slots
    var mixed = vec4<f32>();
    for (var begin = first_slot(group.y, place); begin <= place.y; begin += STRETCH) {
        let slots = min(place.y + 1u - begin, STRETCH);
        var highest = LOWEST;
        for (var slot = lane; slot < slots; slot += LANES) {
            let at = key_at(group.y, begin + slot, kv, D4);
            var score = 0.0;
            for (var i = 0u; i < D4; i++) {
                score += dot(query[i], cache(at + i));
            }
            weights[slot] = score;
            highest = max(highest, score);
        }
        tallies[lane] = highest;
        workgroupBarrier();
        for (var width = LANES / 2u; width > 0u; width /= 2u) {
            if lane < width {
                tallies[lane] = max(tallies[lane], tallies[lane + width]);
            }
            workgroupBarrier();
        }
        let higher = max(top, tallies[0]);
        let shrink = exp(top - higher);
        top = higher;
        sum *= shrink;
        mixed *= shrink;
        for (var slot = lane; slot < slots; slot += LANES) {
            let weight = exp(weights[slot] - higher);
            weights[slot] = weight;
            sum += weight;
        }
        workgroupBarrier();
        if lane < ADDERS * D4 {
            for (var slot = lane / D4; slot < slots; slot += ADDERS) {
                let at = key_at(group.y, begin + slot, kv, D4) + value_behind(D4);
                mixed += cache(at + element) * weights[slot];
            }
        }
        workgroupBarrier();
    }

    partial[lane] = mixed;
    tallies[lane] = sum;
    workgroupBarrier();
    for (var width = LANES / 2u; width > 0u; width /= 2u) {
        if lane < width {
            tallies[lane] += tallies[lane + width];
        }
        workgroupBarrier();
    }
    if lane < D4 {
        var value = vec4<f32>();
        for (var adder = 0u; adder < ADDERS; adder++) {
            value += partial[adder * D4 + lane];
        }
        out[((p.out_row + token) * p.heads + head) * D4 + lane] = value / tallies[0];
    }
}

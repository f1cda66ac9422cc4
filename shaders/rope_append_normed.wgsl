// See rope_head. A workgroup has one head of q or k: x / sqrt(mean(x^2) + eps) * scale first, then turned. The value that goes
// with a key is appended as it is.
#import rope_head

const LANES = ${LANES}u;

var<workgroup> partial: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let member = group.x;
    let token = group.y;
    let head = head_at(token, member);
    var sum = 0.0;
    for (var i = lane; i < p.half / 2u; i += LANES) {
        let source = pairs_at(head, i);
        let pairs = vec4<f32>(x[source.x], x[source.y]);
        sum += dot(pairs, pairs);
    }
    partial[lane] = sum;
    workgroupBarrier();
    for (var width = LANES / 2u; width > 0u; width /= 2u) {
        if lane < width {
            partial[lane] += partial[lane + width];
        }
        workgroupBarrier();
    }
    let scale = 1.0 / sqrt(partial[0] / f32(2u * p.half) + p.eps);

    let place = places[token];
    let is_query = member < p.queries;
    var kv = 0u;
    if !is_query {
        kv = kv_head(member);
        if kv >= p.kv_heads {
            return; // an entry that names nobody
        }
    }
    for (var i = lane * TWOS; i < p.half / 2u; i += LANES * TWOS) {
        var pairs: Pairs;
        var value: Pairs;
        for (var n = 0u; n < TWOS; n++) {
            let source = pairs_at(head, i + n);
            let weight = pairs_at(select(1u, 0u, is_query), i + n);
            let normed = vec4<f32>(x[source.x], x[source.y]) * scale * vec4<f32>(of_heads[weight.x], of_heads[weight.y]);
            pairs[n] = turned(normed, place.x, i + n);
            if is_query {
                x[source.x] = pairs[n].xy;
                x[source.y] = pairs[n].zw;
            } else {
                let of_value = pairs_at(head_at(token, member + p.keys), i + n);
                value[n] = vec4<f32>(x[of_value.x], x[of_value.y]);
            }
        }
        if !is_query {
            let at_key = cache_at(token, place.y, kv);
            append(at_key, i, &pairs);
            append(at_key + p.kv_heads, i, &value);
        }
    }
}

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
    for (var i = lane; i < shares(); i += LANES) {
        let source = share_at(head, i);
        let near = x[source.x];
        let far = x[source.y];
        sum += dot(near, near) + dot(far, far);
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
    for (var i = lane; i < shares(); i += LANES) {
        let source = share_at(head, i);
        let weight = share_at(select(1u, 0u, is_query), i);
        let normed = Share(x[source.x] * scale * of_heads[weight.x], x[source.y] * scale * of_heads[weight.y]);
        let share = turned(normed, place.x, i);
        if is_query {
            x[source.x] = share[0];
            x[source.y] = share[1];
        } else {
            let of_value = share_at(head_at(token, member + p.keys), i);
            let at_key = cache_at(token, place.y, kv);
            append(at_key, i, share);
            append(at_key + p.kv_heads, i, Share(x[of_value.x], x[of_value.y]));
        }
    }
}

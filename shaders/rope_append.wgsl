// See rope_head. An invocation turns TWOS times two pairs of elements of one head, and appends those of the value that goes with a key.
#import rope_head

const BIASED = ${BIASED}u; // whether q, k and v have biases

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let lanes = p.half / 2u / TWOS; // invocations of a head
    let member = at.x / lanes;
    let token = at.y;
    if member >= p.queries + p.keys {
        return;
    }
    let i = (at.x - member * lanes) * TWOS;
    let place = places[token];
    let is_query = member < p.queries;
    var kv = 0u;
    if !is_query {
        kv = kv_head(member);
        if kv >= p.kv_heads {
            return; // an entry that names nobody
        }
    }
    let head = head_at(token, member);
    var pairs = found(head, member, i);
    for (var n = 0u; n < TWOS; n++) {
        pairs[n] = turned(pairs[n], place.x, i + n);
    }
    if is_query {
        for (var n = 0u; n < TWOS; n++) {
            let to = pairs_at(head, i + n);
            x[to.x] = pairs[n].xy;
            x[to.y] = pairs[n].zw;
        }
        return;
    }
    let at_key = cache_at(token, place.y, kv);
    var value = found(head_at(token, member + p.keys), member + p.keys, i);
    append(at_key, i, &pairs);
    append(at_key + p.kv_heads, i, &value);
}

// The `i`-th pairs of a head of x, the `member`-th of its row, and those behind them, with their biases.
fn found(head: u32, member: u32, i: u32) -> Pairs {
    var pairs: Pairs;
    for (var n = 0u; n < TWOS; n++) {
        let from_ = pairs_at(head, i + n);
        pairs[n] = vec4<f32>(x[from_.x], x[from_.y]);
        if BIASED != 0u {
            let bias = pairs_at(stacked(member), i + n);
            pairs[n] += vec4<f32>(of_heads[bias.x], of_heads[bias.y]);
        }
    }
    return pairs;
}

// See rope_head. An invocation turns two pairs of elements of one head, and appends those of the value that goes with a key.
#import rope_head

const BIASED = ${BIASED}u; // whether q, k and v have biases

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let member = at.x / (p.half / 2u);
    let token = at.y;
    if member >= p.queries + p.keys {
        return;
    }
    let i = at.x - member * (p.half / 2u);
    let place = places[token];
    let source = pairs_at(head_at(token, member), i);
    let is_query = member < p.queries;
    var kv = 0u;
    if !is_query {
        kv = kv_head(member);
        if kv >= p.kv_heads {
            return; // an entry that names nobody
        }
    }
    var pairs = vec4<f32>(x[source.x], x[source.y]);
    if BIASED != 0u {
        let bias = pairs_at(stacked(member), i);
        pairs += vec4<f32>(of_heads[bias.x], of_heads[bias.y]);
    }
    pairs = turned(pairs, place.x, i);
    if is_query {
        x[source.x] = pairs.xy;
        x[source.y] = pairs.zw;
        return;
    }
    let at_key = cache_at(token, place.y, kv);
    let key_to = pairs_at(at_key, i);
    let value_to = pairs_at(at_key + p.kv_heads, i);
    let from_ = pairs_at(head_at(token, member + p.keys), i);
    var value = vec4<f32>(x[from_.x], x[from_.y]);
    if BIASED != 0u {
        let bias = pairs_at(stacked(member + p.keys), i);
        value += vec4<f32>(of_heads[bias.x], of_heads[bias.y]);
    }
    cache[key_to.x] = pairs.xy;
    cache[key_to.y] = pairs.zw;
    cache[value_to.x] = value.xy;
    cache[value_to.y] = value.zw;
}

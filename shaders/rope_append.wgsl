// See rope_head. An invocation turns a pair of elements of one head, and appends the pair of the value that goes with a key.
#import rope_head

const BIASED = ${BIASED}u; // whether q, k and v have biases

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let member = at.x / p.half;
    let token = at.y;
    if member >= p.queries + p.keys {
        return;
    }
    let i = at.x % p.half;
    let place = places[token];
    let source = pair_at(head_at(token, member), i);
    let is_query = member < p.queries;
    var kv = 0u;
    if !is_query {
        kv = kv_head(member);
        if kv >= p.kv_heads {
            return; // an entry that names nobody
        }
    }
    var pair = vec2<f32>(x[source.x], x[source.y]);
    if BIASED != 0u {
        let bias = pair_at(stacked(member), i);
        pair += vec2<f32>(of_heads[bias.x], of_heads[bias.y]);
    }
    pair = turned(pair, place.x, i);
    if is_query {
        x[source.x] = pair.x;
        x[source.y] = pair.y;
        return;
    }
    let at_key = cache_at(token, place.y, kv);
    let key_to = pair_at(at_key, i);
    let value_to = pair_at(at_key + p.kv_heads, i);
    let from_ = pair_at(head_at(token, member + p.keys), i);
    var value = vec2<f32>(x[from_.x], x[from_.y]);
    if BIASED != 0u {
        let bias = pair_at(stacked(member + p.keys), i);
        value += vec2<f32>(of_heads[bias.x], of_heads[bias.y]);
    }
    cache[key_to.x] = pair.x;
    cache[key_to.y] = pair.y;
    cache[value_to.x] = value.x;
    cache[value_to.y] = value.y;
}

// Rotary position embedding of queries, in place, and the appending of keys (turned as well) and values to the cache
// [sample][kv head][slot][head_dim]. A row of x holds queries, then keys, then values.
struct Params {
    queries: u32,     // query heads in a row
    keys: u32,        // kv heads in a row; 0 = the row holds queries alone
    half: u32,        // head_dim / 2
    adjacent: u32,    // how rope pairs elements
    length: u32,      // tokens of a sample
    kv_heads: u32,    // heads of the cache
    capacity: u32,    // slots of the cache
    model_heads: u32, // query heads of the whole model where `list` names the row's heads, 0 where there is no list
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read> places: array<vec2<u32>>; // position and slot of every token
@group(0) @binding(2) var<storage, read> turns: array<vec2<f32>>; // [position][half] cosine and sine
@group(0) @binding(3) var<storage, read> list: array<u32>;
@group(0) @binding(4) var<storage, read_write> k_cache: array<f32>;
@group(0) @binding(5) var<storage, read_write> v_cache: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
#import rope_pair

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let member = at.x / p.half;
    let token = at.y;
    if member >= p.queries + p.keys {
        return;
    }
    let i = at.x % p.half;
    let place = places[token];
    let pair = rope_pair(i, p.half, p.adjacent != 0u);
    let row = token * (p.queries + 2u * p.keys);
    let source = pair + vec2<u32>((row + member) * 2u * p.half);
    let turned = rope_turn(x[source.x], x[source.y], turns[place.x * p.half + i]);
    if member < p.queries {
        x[source.x] = turned.x;
        x[source.y] = turned.y;
        return;
    }
    var head = member - p.queries;
    if p.model_heads != 0u {
        head = list[member] - p.model_heads;
    }
    if head >= p.kv_heads {
        return; // an entry that names nobody
    }
    let to = pair + vec2<u32>((((token / p.length) * p.kv_heads + head) * p.capacity + place.y) * 2u * p.half);
    let value = source + vec2<u32>(p.keys * 2u * p.half);
    k_cache[to.x] = turned.x;
    k_cache[to.y] = turned.y;
    v_cache[to.x] = x[value.x];
    v_cache[to.y] = x[value.y];
}

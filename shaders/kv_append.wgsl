// Writes the keys (turned by rope) and values of new tokens into the cache [sample][kv head][slot][head_dim].
struct Params {
    length: u32,   // tokens of a sample in k and v
    heads: u32,    // kv heads in k and v
    half: u32,     // head_dim / 2
    adjacent: u32, // how rope pairs elements
    kv_heads: u32, // heads of the cache
    capacity: u32, // slots of the cache
    listed: u32,   // whether `list` names the heads in k and v (an entry past kv_heads is nobody)
}

@group(0) @binding(0) var<storage, read> k: array<f32>;
@group(0) @binding(1) var<storage, read> v: array<f32>;
@group(0) @binding(2) var<storage, read> places: array<vec2<u32>>; // position and slot of every token
@group(0) @binding(3) var<storage, read> turns: array<vec2<f32>>; // [position][half] cosine and sine
@group(0) @binding(4) var<storage, read> list: array<u32>;
@group(0) @binding(5) var<storage, read_write> k_cache: array<f32>;
@group(0) @binding(6) var<storage, read_write> v_cache: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
#import rope_pair

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let index = at.x;
    let token = at.y;
    if index >= p.heads * p.half {
        return;
    }
    let i = index % p.half;
    let source = (token * p.heads + index / p.half) * 2u * p.half;
    var head = index / p.half;
    if p.listed != 0u {
        head = list[head];
    }
    if head >= p.kv_heads {
        return;
    }
    let place = places[token];
    let to = (((token / p.length) * p.kv_heads + head) * p.capacity + place.y) * 2u * p.half;
    let pair = rope_pair(i, p.half, p.adjacent != 0u);
    let turned = rope_turn(k[source + pair.x], k[source + pair.y], turns[place.x * p.half + i]);
    k_cache[to + pair.x] = turned.x;
    k_cache[to + pair.y] = turned.y;
    v_cache[to + pair.x] = v[source + pair.x];
    v_cache[to + pair.y] = v[source + pair.y];
}

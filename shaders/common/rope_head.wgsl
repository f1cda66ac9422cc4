// Rotary position embedding of queries, in place, and the appending of keys (turned as well) and values to the cache
// [sample][slot][keys, then values][kv head][head_dim]. A row of x holds queries, then keys, then values. Invocations take TWOS
// times two pairs of elements of a head at a time, two elements to a load. With TWOS = 2 these are whole texels of the cache's mirror.
struct Params {
    queries: u32,     // query heads in a row
    keys: u32,        // kv heads in a row; 0 = the row holds queries alone
    half: u32,        // head_dim / 2
    adjacent: u32,    // how rope pairs elements
    length: u32,      // tokens of a sample
    kv_heads: u32,    // heads of the cache
    capacity: u32,    // slots of the cache
    model_heads: u32, // query heads of the whole model where `list` names the row's heads, 0 where there is no list
    no_rope: u32,     // whether the layer is without rope
    eps: f32,         // of the norm
}

@group(0) @binding(0) var<storage, read_write> x: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read> places: array<vec2<u32>>; // position and slot of every token
@group(0) @binding(2) var<storage, read> turns: array<vec4<f32>>; // [position][half / 2] cosine and sine, twice
@group(0) @binding(3) var<storage, read> list: array<u32>;
@group(0) @binding(4) var<storage, read_write> cache: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read> of_heads: array<vec2<f32>>; // biases of all heads of q, k and v, norms of q and of k, or nothing
#store beside 6
@group(1) @binding(0) var<uniform> p: Params;

const TWOS = ${TWOS}u;

// What an invocation takes of a head: TWOS times two pairs of elements, four to a vector.
alias Pairs = array<vec4<f32>, TWOS>;

// Where the `i`-th two pairs of elements of a head lie, of half / 2, where the head is the `head`-th: pairs are adjacent, or their
// elements half a head apart.
fn pairs_at(head: u32, i: u32) -> vec2<u32> {
    return select(vec2<u32>(i, i + p.half / 2u), vec2<u32>(2u * i, 2u * i + 1u), p.adjacent != 0u) + vec2<u32>(head * p.half);
}

// What lies there, as the pairs' first elements and their second ones; and back.
fn paired(found: vec4<f32>) -> vec4<f32> {
    return select(found, found.xzyw, p.adjacent != 0u);
}

// The head of x that is the `member`-th of a token's row.
fn head_at(token: u32, member: u32) -> u32 {
    return token * (p.queries + 2u * p.keys) + member;
}

// The head of q, k and v stacked that is the `member`-th of a row.
fn stacked(member: u32) -> u32 {
    if p.model_heads != 0u {
        return list[member];
    }
    return member;
}

// Two pairs of q or k turned, each by the angle whose cosine and sine the table holds, unless the layer is without rope.
fn turned(found: vec4<f32>, position: u32, i: u32) -> vec4<f32> {
    if p.no_rope != 0u {
        return found;
    }
    let pairs = paired(found);
    let turn = turns[position * (p.half / 2u) + i];
    let first = pairs.xy * turn.xz - pairs.zw * turn.yw;
    let second = pairs.xy * turn.yw + pairs.zw * turn.xz;
    return paired(vec4<f32>(first, second));
}

// The kv head of the cache that the `member`-th head of a row, a key, belongs to; past them all where the entry names nobody.
fn kv_head(member: u32) -> u32 {
    if p.model_heads != 0u {
        return list[member] - p.model_heads;
    }
    return member - p.queries;
}

// The head of the cache that the key of `kv` is at a token's slot; that of its value is kv_heads behind.
fn cache_at(token: u32, slot: u32, kv: u32) -> u32 {
    return (token / p.length * p.capacity + slot) * 2u * p.kv_heads + kv;
}

// Puts the `i`-th pairs of a head of the cache, and those behind them, where they belong.
fn append(head: u32, i: u32, pairs: ptr<function, Pairs>) {
    for (var n = 0u; n < TWOS; n++) {
        let to = pairs_at(head, i + n);
        cache[to.x] = (*pairs)[n].xy;
        cache[to.y] = (*pairs)[n].zw;
    }
    if TWOS > 1u {
        let to = pairs_at(head, i) / 2u;
        let near = (*pairs)[0];
        let far = (*pairs)[TWOS - 1u];
        let is_adjacent = p.adjacent != 0u;
        beside(to.x, select(vec4<f32>(near.xy, far.xy), near, is_adjacent));
        beside(select(to.y, to.x + 1u, is_adjacent), select(vec4<f32>(near.zw, far.zw), far, is_adjacent));
    }
}

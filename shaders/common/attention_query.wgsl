// What kernels of attention share: bindings, which head a query is of, and which slots it sees.
struct Params {
    length: u32,   // queries of a sample
    heads: u32,    // query heads in q and out
    q_heads: u32,  // heads of a row of q, whatever lies behind the query heads
    kv_heads: u32, // heads of the cache
    group: u32,    // query heads of a kv head, in the whole model
    apart: u32,    // from the slots of a sample to those of the next, in vec4
    mapped: u32,   // which of the model's heads are in q: 0 all, 1 the kept ones of `place_of`, 2 the dropped ones
    out_row: u32,  // first row of out
    scale: f32,
    window: u32,   // positions that a query sees, its own among them; 0 = all up to its own
    gathered: u32, // whether slots hold the queries' own tokens; otherwise a slot is a position
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
#fetch cache 1 vec4<f32>
@group(0) @binding(2) var<storage, read> places: array<vec2<u32>>; // position and slot of every query
@group(0) @binding(3) var<storage, read> place_of: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
#store beside 5
@group(1) @binding(0) var<uniform> p: Params;

const NOBODY = 0xffffffffu;
const DROPPED = 0x80000000u; // see top_k
const LOWEST = -3.0e38;

// Where the model's head `head` is in q, or NOBODY.
fn head_in_q(head: u32) -> u32 {
    if p.mapped == 0u {
        return head;
    }
    let place = place_of[head];
    return select(NOBODY, place % DROPPED, (place >= DROPPED) == (p.mapped == 2u));
}

// Where the key of a kv head at a slot begins in the cache [sample][slot][keys, then values][kv head][d4], and how far behind it the
// value does.
fn key_at(sample: u32, slot: u32, kv: u32, d4: u32) -> u32 {
    return sample * p.apart + (2u * slot * p.kv_heads + kv) * d4;
}

fn value_behind(d4: u32) -> u32 {
    return p.kv_heads * d4;
}

// The first slot that a query of a sample sees.
fn first_slot(sample: u32, place: vec2<u32>) -> u32 {
    if p.window == 0u {
        return 0u;
    }
    if p.gathered == 0u {
        return max(place.y + 1u, p.window) - p.window;
    }
    // Positions ascend; the query's own is within reach.
    var first = 0u;
    while first < place.y && place.x - places[sample * p.length + first].x >= p.window {
        first += 1u;
    }
    return first;
}

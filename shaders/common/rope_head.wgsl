// Rotary position embedding of queries, in place, and the appending of keys (turned as well) and values to the cache
// [sample][slot][keys, then values][kv head][head_dim]. A row of x holds queries, then keys, then values. An invocation takes a share of
// a head: two loads of WIDTH elements, which together are WIDTH pairs. WIDTH is 4 where heads allow it, else 2.
struct Params {
    queries: u32,     // query heads in a row
    keys: u32,        // kv heads in a row; 0 = the row holds queries alone
    half: u32,        // head_dim / 2
    length: u32,      // tokens of a sample
    kv_heads: u32,    // heads of the cache
    capacity: u32,    // slots of the cache
    model_heads: u32, // query heads of the whole model where `list` names the row's heads, 0 where there is no list
    no_rope: u32,     // whether the layer is without rope
    eps: f32,         // of the norm
}

// [position][half / 2] cosine and sine, twice.
#fetch turns 2 vec4<f32>
@group(0) @binding(0) var<storage, read_write> x: array<Load>;
@group(0) @binding(1) var<storage, read> places: array<vec2<u32>>; // position and slot of every token
@group(0) @binding(3) var<storage, read> list: array<u32>;
@group(0) @binding(4) var<storage, read_write> cache: array<Load>;
@group(0) @binding(5) var<storage, read> of_heads: array<Load>; // biases of all heads of q, k and v, norms of q and of k, or nothing
#store beside 6
@group(1) @binding(0) var<uniform> p: Params;

const WIDTH = ${WIDTH}u;
const ADJACENT = ${ADJACENT}u; // whether the elements of a pair are adjacent, or half a head apart

// In a share, from a pair's first element to the next one's, and to its second.
const STEP = 1u + ADJACENT;
const APART = ADJACENT + (1u - ADJACENT) * WIDTH;

alias Load = vec${WIDTH}<f32>;
alias Share = array<Load, 2>;

// Shares of a head.
fn shares() -> u32 {
    return p.half / WIDTH;
}

// Where the two loads of the `i`-th share of a head lie, where the head is the `head`-th.
fn share_at(head: u32, i: u32) -> vec2<u32> {
    let near = head * 2u * shares() + i * STEP;
    return vec2<u32>(near, near + select(shares(), 1u, ADJACENT != 0u));
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

// The `i`-th share of a head of q or k turned, each pair by the angle whose cosine and sine the table holds, unless the layer is without
// rope.
fn turned(found: Share, position: u32, i: u32) -> Share {
    if p.no_rope != 0u {
        return found;
    }
    var share = found;
    // Written out: software drivers look for elements at run time where a loop names them.
#repeat two TWOS
    let turn_${two} = turns((position * p.half + i * WIDTH) / 2u + ${two}u);
    turn(&share, 2u * ${two}u, turn_${two}.xy);
    turn(&share, 2u * ${two}u + 1u, turn_${two}.zw);
#end
    return share;
}

// Turns the `n`-th pair of a share by an angle, of which there are cosine and sine.
fn turn(share: ptr<function, Share>, n: u32, angle: vec2<f32>) {
    let at = n * STEP;
    let behind = at + APART;
    let first = (*share)[at / WIDTH][at % WIDTH];
    let second = (*share)[behind / WIDTH][behind % WIDTH];
    (*share)[at / WIDTH][at % WIDTH] = first * angle.x - second * angle.y;
    (*share)[behind / WIDTH][behind % WIDTH] = first * angle.y + second * angle.x;
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

// Puts the `i`-th share of a head of the cache where it belongs, and into the mirror, whose texels are loads of four.
fn append(head: u32, i: u32, share: Share) {
    let to = share_at(head, i);
    cache[to.x] = share[0];
    cache[to.y] = share[1];
    if WIDTH == 4u {
        beside(to.x, texel(share[0]));
        beside(to.y, texel(share[1]));
    }
}

fn texel(load: Load) -> vec4<f32> {
    return vec4<f32>(load.xy, load[WIDTH - 2u], load[WIDTH - 1u]);
}

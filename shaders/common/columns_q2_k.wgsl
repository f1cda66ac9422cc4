// Q2_K by columns: quants [channel][h / 32] vec2 of 16 pairs of bits a word; scales of every 256 channels: first
// [channel / 32][h / 32] four vec4 of 8 nibbles a word (scales of the first 16 channels, of the others, minima of the first, of the
// others), then [h / 4] vec4 of (d, dmin) f16 pairs.
#lookup W__quants @Q vec2<u32>
#fetch W__scales @S vec4<u32>

fn W__pairs(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u));
}

fn W__nibbles(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u));
}

// What is there for four outputs at a time; sub-scales stay packed, for two of each would be 128 registers.
struct W__Scales {
    d: array<vec4<f32>, 8>,
    dmin: array<vec4<f32>, 8>,
    near: vec4<u32>,
    far: vec4<u32>,
    near_minimum: vec4<u32>,
    far_minimum: vec4<u32>,
}

// That of the 32 outputs of `block` for the 32 channels of `group`, read once for all of them.
fn W__column_scales(group: u32, block: Block) -> W__Scales {
    let part = block.scales + group / 8u * block.count * 40u;
    let at = part + (group % 8u * block.count + block.index) * 4u;
    var s: W__Scales;
    s.near = W__scales(at);
    s.far = W__scales(at + 1u);
    s.near_minimum = W__scales(at + 2u);
    s.far_minimum = W__scales(at + 3u);
    for (var i = 0u; i < 8u; i++) {
        let pairs = W__scales(part + 32u * block.count + block.index * 8u + i);
        let a = unpack2x16float(pairs.x);
        let b = unpack2x16float(pairs.y);
        let c = unpack2x16float(pairs.z);
        let d = unpack2x16float(pairs.w);
        s.d[i] = vec4<f32>(a.x, b.x, c.x, d.x);
        s.dmin[i] = vec4<f32>(a.y, b.y, c.y, d.y);
    }
    return s;
}

struct W__Bits {
    low: vec2<u32>,
    is_far: bool,
}

// What is there of `channel` for those outputs.
fn W__bits(channel: u32, block: Block) -> W__Bits {
    return W__Bits(W__quants(block.quants + channel * block.count + block.index), channel % 32u > 15u);
}

// The weights of it for outputs 4i to 4i + 3.
fn W__four(bits: ptr<function, W__Bits>, i: u32, scales: ptr<function, W__Scales>) -> vec4<f32> {
    let half = 16u * (i % 2u);
    let scale = select((*scales).near[i / 2u], (*scales).far[i / 2u], (*bits).is_far) >> half;
    let minimum = select((*scales).near_minimum[i / 2u], (*scales).far_minimum[i / 2u], (*bits).is_far) >> half;
    let s = W__nibbles(scale) * (*scales).d[i];
    let m = W__nibbles(minimum) * (*scales).dmin[i];
    return W__pairs((*bits).low[i / 4u] >> (8u * (i % 4u))) * s - m;
}

#import column_group

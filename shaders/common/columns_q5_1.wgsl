// Q5_1 by columns: of every 32 channels first the low bits, [channel][h / 32] vec4 of 8 nibbles a word, then the fifth bits,
// [channel][h / 32] words; scales [channel / 32][h / 4] vec4 of (scale, minimum) f16 pairs.
#fetch W__quants @Q vec4<u32>
#fetch W__scales @S vec4<u32>

// Integers of the nibbles in the low half of `word` and the lowest four bits of `high`.
fn W__fives(word: u32, high: u32) -> vec4<f32> {
    let low = (vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    return vec4<f32>(low | ((vec4<u32>(high) << vec4<u32>(4u, 3u, 2u, 1u)) & vec4<u32>(16u)));
}

// Scales and minima of four outputs at a time.
struct W__Scales {
    scale: array<vec4<f32>, 8>,
    minimum: array<vec4<f32>, 8>,
}

// Those of the 32 outputs of `block` for the 32 channels of `group`, unpacked once for all of them.
fn W__column_scales(group: u32, block: Block) -> W__Scales {
    let at = block.scales + (group * block.count + block.index) * 8u;
    var s: W__Scales;
    for (var i = 0u; i < 8u; i++) {
        let pairs = W__scales(at + i);
        let a = unpack2x16float(pairs.x);
        let b = unpack2x16float(pairs.y);
        let c = unpack2x16float(pairs.z);
        let d = unpack2x16float(pairs.w);
        s.scale[i] = vec4<f32>(a.x, b.x, c.x, d.x);
        s.minimum[i] = vec4<f32>(a.y, b.y, c.y, d.y);
    }
    return s;
}

struct W__Bits {
    low: vec4<u32>,
    high: u32,
}

// What is there of `channel` for those outputs.
fn W__bits(channel: u32, block: Block) -> W__Bits {
    let group = block.quants + channel / 32u * block.count * 40u;
    let at = channel % 32u * block.count + block.index;
    return W__Bits(W__quants(group + at), W__quants(group + 32u * block.count + at / 4u)[at % 4u]);
}

// The weights of it for outputs 4i to 4i + 3.
fn W__four(bits: ptr<function, W__Bits>, i: u32, scales: ptr<function, W__Scales>) -> vec4<f32> {
    return W__fives((*bits).low[i / 2u] >> (16u * (i % 2u)), (*bits).high >> (4u * i)) * (*scales).scale[i] + (*scales).minimum[i];
}

#import column_group

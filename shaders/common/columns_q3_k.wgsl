// Q3_K by columns: of every 32 channels first the low bits, [channel][h / 32] vec2 of 16 pairs of bits a word, then the third
// bits, [channel][h / 32] words; scales of every 256 channels: first [channel / 32][h / 32] three vec4 (low nibbles for the first
// 16 channels, low nibbles for the others, their high two bits, the first's first), then [h / 8] vec4 of two f16 a word, d.
#lookup W__quants @Q vec2<u32>
#fetch W__scales @S vec4<u32>

// Integers of the lowest four pairs of bits of `word` and the lowest four bits of `high`, around 4.
fn W__threes(word: u32, high: u32) -> vec4<f32> {
    let low = (vec4<u32>(word) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u);
    return vec4<f32>(low | ((vec4<u32>(high << 2u) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(4u))) - 4.0;
}

// Integers of six bits: the nibbles in the low half of `low`, and the lowest four pairs of bits of `high` above them.
fn W__six(low: u32, high: u32) -> vec4<f32> {
    let nibbles = (vec4<u32>(low) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    return vec4<f32>(nibbles | ((vec4<u32>(high << 4u) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(48u)));
}

// Scales of four outputs at a time, for the first 16 channels of a group and for the others.
struct W__Scales {
    near: array<vec4<f32>, 8>,
    far: array<vec4<f32>, 8>,
}

// Those of the 32 outputs of `block` for the 32 channels of `group`, unpacked once for all of them.
fn W__column_scales(group: u32, block: Block) -> W__Scales {
    let part = block.scales + group / 8u * block.count * 28u;
    let at = part + (group % 8u * block.count + block.index) * 3u;
    let near = W__scales(at);
    let far = W__scales(at + 1u);
    let high = W__scales(at + 2u);
    var s: W__Scales;
    for (var i = 0u; i < 8u; i++) {
        let halves = W__scales(part + 24u * block.count + block.index * 4u + i / 2u);
        let pair = select(halves.xy, halves.zw, i % 2u == 1u);
        let d = vec4<f32>(unpack2x16float(pair.x), unpack2x16float(pair.y));
        let nibbles = 16u * (i % 2u);
        let two = 8u * (i % 4u);
        s.near[i] = (W__six(near[i / 2u] >> nibbles, high[i / 4u] >> two) - 32.0) * d;
        s.far[i] = (W__six(far[i / 2u] >> nibbles, high[2u + i / 4u] >> two) - 32.0) * d;
    }
    return s;
}

struct W__Bits {
    low: vec2<u32>,
    high: u32,
    is_far: bool,
}

// What is there of `channel` for those outputs.
fn W__bits(channel: u32, block: Block) -> W__Bits {
    let group = block.quants + channel / 32u * block.count * 48u;
    let at = channel % 32u * block.count + block.index;
    let high = W__quants(group + 32u * block.count + at / 2u)[at % 2u];
    return W__Bits(W__quants(group + at), high, channel % 32u > 15u);
}

// The weights of it for outputs 4i to 4i + 3.
fn W__four(bits: ptr<function, W__Bits>, i: u32, scales: ptr<function, W__Scales>) -> vec4<f32> {
    let scale = select((*scales).near[i], (*scales).far[i], (*bits).is_far);
    return W__threes((*bits).low[i / 4u] >> (8u * (i % 4u)), (*bits).high >> (4u * i)) * scale;
}

#import column_group

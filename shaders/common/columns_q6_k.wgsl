// Q6_K by columns: of every 32 channels first the low bits, [channel][h / 32] vec4 of 8 nibbles a word, then the fifth and sixth
// bits, [channel][h / 32] two words; scales of every 256 channels: first [channel / 32][h / 32] four vec4 of four signed bytes a
// word (two of the first 16 channels, two of the others), then [h / 8] vec4 of two f16 a word, d.
#fetch W__quants @Q vec4<u32>
#fetch W__scales @S vec4<u32>

// Integers of the nibbles in the low half of `word` and the lowest four pairs of bits of `high`, around 32.
fn W__sixes(word: u32, high: u32) -> vec4<f32> {
    let low = (vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    return vec4<f32>(low | ((vec4<u32>(high << 4u) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(48u))) - 32.0;
}

// Scales of four outputs at a time, for the first 16 channels of a group and for the others.
struct W__Scales {
    near: array<vec4<f32>, 8>,
    far: array<vec4<f32>, 8>,
}

// Those of the 32 outputs of `block` for the 32 channels of `group`, unpacked once for all of them.
fn W__column_scales(group: u32, block: Block) -> W__Scales {
    let part = block.scales + group / 8u * block.count * 36u;
    let at = part + (group % 8u * block.count + block.index) * 4u;
    var s: W__Scales;
    for (var i = 0u; i < 4u; i++) {
        let d = W__scales(part + 32u * block.count + block.index * 4u + i);
        let even = vec4<f32>(unpack2x16float(d.x), unpack2x16float(d.y));
        let odd = vec4<f32>(unpack2x16float(d.z), unpack2x16float(d.w));
        let near = W__scales(at + i / 2u);
        let far = W__scales(at + 2u + i / 2u);
        let word = i % 2u * 2u;
        s.near[2u * i] = vec4<f32>(unpack4xI8(near[word])) * even;
        s.near[2u * i + 1u] = vec4<f32>(unpack4xI8(near[word + 1u])) * odd;
        s.far[2u * i] = vec4<f32>(unpack4xI8(far[word])) * even;
        s.far[2u * i + 1u] = vec4<f32>(unpack4xI8(far[word + 1u])) * odd;
    }
    return s;
}

struct W__Bits {
    low: vec4<u32>,
    high: vec2<u32>,
    is_far: bool,
}

// What is there of `channel` for those outputs.
fn W__bits(channel: u32, block: Block) -> W__Bits {
    let group = block.quants + channel / 32u * block.count * 48u;
    let at = channel % 32u * block.count + block.index;
    let two = W__quants(group + 32u * block.count + at / 2u);
    return W__Bits(W__quants(group + at), select(two.xy, two.zw, at % 2u == 1u), channel % 32u > 15u);
}

// The weights of it for outputs 4i to 4i + 3.
fn W__four(bits: ptr<function, W__Bits>, i: u32, scales: ptr<function, W__Scales>) -> vec4<f32> {
    let scale = select((*scales).near[i], (*scales).far[i], (*bits).is_far);
    return W__sixes((*bits).low[i / 2u] >> (16u * (i % 2u)), (*bits).high[i / 4u] >> (8u * (i % 4u))) * scale;
}

#import column_group

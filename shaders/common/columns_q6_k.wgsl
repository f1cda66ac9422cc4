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

// The weights of `channel` for those outputs.
fn W__column(channel: u32, block: Block, scales: ptr<function, W__Scales>) -> array<vec4<f32>, 8> {
    let group = block.quants + channel / 32u * block.count * 48u;
    let at = channel % 32u * block.count + block.index;
    let q = W__quants(group + at);
    let two = W__quants(group + 32u * block.count + at / 2u);
    let high = select(two.xy, two.zw, at % 2u == 1u);
    let is_far = channel % 32u > 15u;
    var w: array<vec4<f32>, 8>;
    for (var c = 0u; c < 4u; c++) {
        let e = 2u * c;
        let h = high[c / 2u] >> (16u * (c % 2u));
        w[e] = W__sixes(q[c], h) * select((*scales).near[e], (*scales).far[e], is_far);
        w[e + 1u] = W__sixes(q[c] >> 16u, h >> 8u) * select((*scales).near[e + 1u], (*scales).far[e + 1u], is_far);
    }
    return w;
}

#import column_group

// Q5_0 by columns: of every 32 channels first the low bits, [channel][h / 32] vec4 of 8 nibbles a word, then the fifth bits,
// [channel][h / 32] words; scales [channel / 32][h / 8] vec4 of two f16 a word.
#fetch W__quants @Q vec4<u32>
#fetch W__scales @S vec4<u32>

// Integers of the nibbles in the low half of `word` and the lowest four bits of `high`.
fn W__fives(word: u32, high: u32) -> vec4<f32> {
    let low = (vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    return vec4<f32>(low | ((vec4<u32>(high) << vec4<u32>(4u, 3u, 2u, 1u)) & vec4<u32>(16u)));
}

alias W__Scales = array<vec4<f32>, 8>;

// Scales of the 32 outputs of `block` for the 32 channels of `group`, unpacked once for all of them.
fn W__column_scales(group: u32, block: Block) -> W__Scales {
    let at = block.scales + (group * block.count + block.index) * 4u;
    var s: W__Scales;
    for (var i = 0u; i < 4u; i++) {
        let d = W__scales(at + i);
        s[2u * i] = vec4<f32>(unpack2x16float(d.x), unpack2x16float(d.y));
        s[2u * i + 1u] = vec4<f32>(unpack2x16float(d.z), unpack2x16float(d.w));
    }
    return s;
}

// The integers of `channel` for those outputs.
fn W__column_integers(channel: u32, block: Block) -> array<vec4<f32>, 8> {
    let group = block.quants + channel / 32u * block.count * 40u;
    let at = channel % 32u * block.count + block.index;
    let q = W__quants(group + at);
    let high = W__quants(group + 32u * block.count + at / 4u)[at % 4u];
    var w: array<vec4<f32>, 8>;
    for (var c = 0u; c < 4u; c++) {
        w[2u * c] = W__fives(q[c], high >> (8u * c)) - 16.0;
        w[2u * c + 1u] = W__fives(q[c] >> 16u, high >> (8u * c + 4u)) - 16.0;
    }
    return w;
}

#import column_integers

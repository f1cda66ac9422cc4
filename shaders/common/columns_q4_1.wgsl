// Q4_1 by columns: quants [channel][h / 32] vec4 of 8 nibbles a word, scales [channel / 32][h / 4] vec4 of (scale, minimum)
// f16 pairs.
#fetch W__quants @Q vec4<u32>
#fetch W__scales @S vec4<u32>

// The integers of the nibbles in the low half of `word` where they lie: 1, 16, 256 and 4096 times too large.
fn W__in_place(word: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) & vec4<u32>(0xfu, 0xf0u, 0xf00u, 0xf000u)));
}

// Scales and minima of four outputs at a time; scales are as much smaller as integers in place are too large.
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
        s.scale[i] = vec4<f32>(a.x, b.x, c.x, d.x) * vec4<f32>(1.0, 0.0625, 0.00390625, 0.000244140625);
        s.minimum[i] = vec4<f32>(a.y, b.y, c.y, d.y);
    }
    return s;
}

alias W__Bits = vec4<u32>;

// What is there of `channel` for those outputs.
fn W__bits(channel: u32, block: Block) -> W__Bits {
    return W__quants(block.quants + channel * block.count + block.index);
}

// The weights of it for outputs 4i to 4i + 3.
fn W__four(bits: ptr<function, W__Bits>, i: u32, scales: ptr<function, W__Scales>) -> vec4<f32> {
    return W__in_place((*bits)[i / 2u] >> (16u * (i % 2u))) * (*scales).scale[i] + (*scales).minimum[i];
}

#import column_group

// Q5_1 by columns: of every 32 channels first the low bits, [channel][h / 32] vec4 of 8 nibbles a word, then the fifth bits,
// [channel][h / 32] words; scales [channel / 32][h / 4] vec4 of (scale, minimum) f16 pairs.
#fetch W__quants @Q vec4<u32>
#fetch W__scales @S vec4<u32>

#import fives
#import column_fives

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

// The weights of it for outputs 4i to 4i + 3.
fn W__four(bits: ptr<function, W__Bits>, i: u32, scales: ptr<function, W__Scales>) -> vec4<f32> {
    return W__fives((*bits).low[i / 2u] >> (16u * (i % 2u)), (*bits).high >> (4u * i)) * (*scales).scale[i] + (*scales).minimum[i];
}

#import column_group

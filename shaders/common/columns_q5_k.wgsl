// Q5_K by columns: of every 32 channels first the low bits, [channel][h / 32] vec4 of 8 nibbles a word, then the fifth bits,
// [channel][h / 32] words; scales of every 256 channels: first [channel / 32][h / 32] three
// vec4 (low nibbles of scales, low nibbles of minima, their high two bits, scales first), then [h / 4] vec4 of (d, dmin) f16 pairs.
#fetch W__quants @Q vec4<u32>
#fetch W__scales @S vec4<u32>

#import fives
#import column_fives

// Integers of six bits: the nibbles in the low half of `low`, and the lowest four pairs of bits of `high` above them.
fn W__six(low: u32, high: u32) -> vec4<f32> {
    let nibbles = (vec4<u32>(low) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    return vec4<f32>(nibbles | ((vec4<u32>(high << 4u) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(48u)));
}

// Scales and minima of four outputs at a time.
struct W__Scales {
    scale: array<vec4<f32>, 8>,
    minimum: array<vec4<f32>, 8>,
}

// Those of the 32 outputs of `block` for the 32 channels of `group`, unpacked once for all of them.
fn W__column_scales(group: u32, block: Block) -> W__Scales {
    let part = block.scales + group / 8u * block.count * 32u;
    let at = part + (group % 8u * block.count + block.index) * 3u;
    let scale = W__scales(at);
    let minimum = W__scales(at + 1u);
    let high = W__scales(at + 2u);
    var s: W__Scales;
    for (var i = 0u; i < 8u; i++) {
        let pairs = W__scales(part + 24u * block.count + block.index * 8u + i);
        let a = unpack2x16float(pairs.x);
        let b = unpack2x16float(pairs.y);
        let c = unpack2x16float(pairs.z);
        let d = unpack2x16float(pairs.w);
        let nibbles = 16u * (i % 2u);
        let two = 8u * (i % 4u);
        s.scale[i] = vec4<f32>(a.x, b.x, c.x, d.x) * W__six(scale[i / 2u] >> nibbles, high[i / 4u] >> two);
        s.minimum[i] = vec4<f32>(a.y, b.y, c.y, d.y) * W__six(minimum[i / 2u] >> nibbles, high[2u + i / 4u] >> two);
    }
    return s;
}

// The weights of it for outputs 4i to 4i + 3.
fn W__four(bits: ptr<function, W__Bits>, i: u32, scales: ptr<function, W__Scales>) -> vec4<f32> {
    return W__fives((*bits).low[i / 2u] >> (16u * (i % 2u)), (*bits).high >> (4u * i)) * (*scales).scale[i] - (*scales).minimum[i];
}

#import column_group

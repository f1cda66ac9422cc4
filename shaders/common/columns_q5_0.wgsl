// Q5_0 by columns: of every 32 channels first the low bits, [channel][h / 32] vec4 of 8 nibbles a word, then the fifth bits,
// [channel][h / 32] words; scales [channel / 32][h / 8] vec4 of two f16 a word.
#fetch W__quants @Q vec4<u32>
#fetch W__scales @S vec4<u32>

#import fives
#import column_fives

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

// The integers of it for outputs 4i to 4i + 3.
fn W__integers(bits: ptr<function, W__Bits>, i: u32) -> vec4<f32> {
    return W__fives((*bits).low[i / 2u] >> (16u * (i % 2u)), (*bits).high >> (4u * i)) - 16.0;
}

#import column_integers

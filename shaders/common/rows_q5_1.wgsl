// Q5_1 by rows: low bits [row][k / 32] vec4 of 8 nibbles a word, scales [row][k / 64] vec4: a (scale, minimum) f16 pair of each of
// the two blocks, then a word of fifth bits of each.
#fetch W__quants @Q vec4<u32>
#lookup W__scales @S vec4<u32>

const W__PER_256 = 8u; // elements of 256 columns

#import fives

// Scale and minimum of the two blocks of 32 columns in step `step` of `row`; `steps` is the row's length in 64 columns.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    let s = W__scales(row * steps + step);
    return vec4<f32>(unpack2x16float(s.x), unpack2x16float(s.y));
}

struct W__Words {
    low: vec4<u32>,
    high: u32,
}

// What is there of the 32 weights of `row` from column 32 * `block` on.
fn W__row_words(row: u32, block: u32, steps: u32) -> W__Words {
    let high = W__scales(row * steps + block / 2u)[2u + block % 2u];
    return W__Words(W__quants(row * steps * 2u + block), high);
}

// Weights 4i to 4i + 3 of them.
fn W__row_four(words: ptr<function, W__Words>, i: u32, scale: vec2<f32>) -> vec4<f32> {
    return W__fives((*words).low[i / 2u] >> (16u * (i % 2u)), (*words).high >> (4u * i)) * scale.x + scale.y;
}

#import row_added
#import row_touch

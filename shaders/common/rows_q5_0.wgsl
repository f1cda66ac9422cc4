// Q5_0 by rows: low bits [row][k / 32] vec4 of 8 nibbles a word, scales [row][k / 64] of two f16 in a word, then a word of fifth
// bits for each of the two blocks.
#fetch W__quants @Q vec4<u32>
#lookup W__scales @S u32

const W__PER_256 = 8u; // elements of 256 columns

#import fives

// Scale and minimum of the two blocks of 32 columns in step `step` of `row`; `steps` is the row's length in 64 columns.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    let d = unpack2x16float(W__scales((row * steps + step) * 3u));
    return vec4<f32>(d.x, 0.0, d.y, 0.0);
}

struct W__Words {
    low: vec4<u32>,
    high: u32,
}

// What is there of the 32 weights of `row` from column 32 * `block` on.
fn W__row_words(row: u32, block: u32, steps: u32) -> W__Words {
    let high = W__scales((row * steps + block / 2u) * 3u + 1u + block % 2u);
    return W__Words(W__quants(row * steps * 2u + block), high);
}

// Integers 4i to 4i + 3 of them.
fn W__row_integers(words: ptr<function, W__Words>, i: u32) -> vec4<f32> {
    return W__fives((*words).low[i / 2u] >> (16u * (i % 2u)), (*words).high >> (4u * i)) - 16.0;
}

#import row_integers
#import row_touch

// Q6_K by rows: quants [row][k / 256] 8 vec4 of 8 nibbles a word, then 4 vec4 of fifth and sixth bits, two words for 32 columns.
// Scales: of a row first [k / 64] four signed bytes a word, then [k / 512] d of two blocks of 256 as f16 a word.
#fetch W__quants @Q vec4<u32>
#lookup W__scales @S u32

const W__PER_256 = 12u; // elements of 256 columns

// Integers of the nibbles in the low half of `word` and the lowest four pairs of bits of `high`, around 32.
fn W__sixes(word: u32, high: u32) -> vec4<f32> {
    let low = (vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    return vec4<f32>(low | ((vec4<u32>(high << 4u) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(48u))) - 32.0;
}

// Scales of the four times 16 columns in step `step` of `row`; `steps` is the row's length in 64 columns.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    let at = row * (steps + (steps / 4u + 1u) / 2u);
    let d = unpack2x16float(W__scales(at + steps + step / 8u));
    return vec4<f32>(unpack4xI8(W__scales(at + step))) * select(d.x, d.y, step % 8u > 3u);
}

struct W__Words {
    low: vec4<u32>,
    high: vec2<u32>,
}

// What is there of the 32 weights of `row` from column 32 * `block` on.
fn W__row_words(row: u32, block: u32, steps: u32) -> W__Words {
    let at = (row * (steps / 4u) + block / 8u) * 12u;
    let two = W__quants(at + 8u + block % 8u / 2u);
    return W__Words(W__quants(at + block % 8u), select(two.xy, two.zw, block % 2u == 1u));
}

// Weights 4i to 4i + 3 of them.
fn W__row_four(words: ptr<function, W__Words>, i: u32, scale: vec2<f32>) -> vec4<f32> {
    let s = select(scale.x, scale.y, i > 3u);
    return W__sixes((*words).low[i / 2u] >> (16u * (i % 2u)), (*words).high[i / 4u] >> (8u * (i % 4u))) * s;
}

#import row_added
#import row_touch

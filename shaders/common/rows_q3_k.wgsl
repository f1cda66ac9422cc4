// Q3_K by rows: quants [row][k / 256] 8 vec2 of 16 pairs of bits a word, then 4 vec2 of third bits, a word for 32 columns; scales
// [row][k / 256] vec4: the low nibbles of the eight scales of even 16 columns, those of odd ones, their high two bits (even
// first), d as f16.
#lookup W__quants @Q vec2<u32>
#lookup W__scales @S vec4<u32>

const W__PER_256 = 12u; // elements of 256 columns

// Integers of the lowest four pairs of bits of `word` and the lowest four bits of `high`, around 4.
fn W__threes(word: u32, high: u32) -> vec4<f32> {
    let low = (vec4<u32>(word) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u);
    return vec4<f32>(low | ((vec4<u32>(high << 2u) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(4u))) - 4.0;
}

// Scales of the four times 16 columns in step `step` of `row`; `steps` is the row's length in 64 columns.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    let s = W__scales(row * (steps / 4u) + step / 4u);
    let b = step % 4u * 2u;
    let low = (s.xyxy >> (vec4<u32>(4u * b) + vec4<u32>(0u, 0u, 4u, 4u))) & vec4<u32>(15u);
    let high = (s.zzzz >> (vec4<u32>(2u * b) + vec4<u32>(0u, 16u, 2u, 18u))) & vec4<u32>(3u);
    return (vec4<f32>(low | (high << vec4<u32>(4u))) - 32.0) * unpack2x16float(s.w).x;
}

struct W__Words {
    low: vec2<u32>,
    high: u32,
}

// What is there of the 32 weights of `row` from column 32 * `block` on.
fn W__row_words(row: u32, block: u32, steps: u32) -> W__Words {
    let at = (row * (steps / 4u) + block / 8u) * 12u;
    return W__Words(W__quants(at + block % 8u), W__quants(at + 8u + block % 8u / 2u)[block % 2u]);
}

// Weights 4i to 4i + 3 of them.
fn W__row_four(words: ptr<function, W__Words>, i: u32, scale: vec2<f32>) -> vec4<f32> {
    let s = select(scale.x, scale.y, i > 3u);
    return W__threes((*words).low[i / 4u] >> (8u * (i % 4u)), (*words).high >> (4u * i)) * s;
}

#import row_added
#import row_touch

// Q5_K by rows: quants [row][k / 256] 8 vec4 of 8 nibbles a word, then 2 vec4 of fifth bits, a word for 32 columns; scales
// [row][k / 256] vec4: the low nibbles of eight
// scales, those of eight minima, their high two bits (scales first), d and dmin as f16.
#fetch W__quants @Q vec4<u32>
#lookup W__scales @S vec4<u32>

const W__PER_256 = 10u; // elements of 256 columns

#import fives

// Scale and minimum of the two blocks of 32 columns in step `step` of `row`; `steps` is the row's length in 64 columns.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    let s = W__scales(row * (steps / 4u) + step / 4u);
    let b = step % 4u * 2u;
    let low = (s.xyxy >> (vec4<u32>(4u * b) + vec4<u32>(0u, 0u, 4u, 4u))) & vec4<u32>(15u);
    let high = (s.zzzz >> (vec4<u32>(2u * b) + vec4<u32>(0u, 16u, 2u, 18u))) & vec4<u32>(3u);
    let d = unpack2x16float(s.w);
    return vec4<f32>(low | (high << vec4<u32>(4u))) * d.xyxy;
}

struct W__Words {
    low: vec4<u32>,
    high: u32,
}

// What is there of the 32 weights of `row` from column 32 * `block` on.
fn W__row_words(row: u32, block: u32, steps: u32) -> W__Words {
    let at = (row * (steps / 4u) + block / 8u) * 10u;
    return W__Words(W__quants(at + block % 8u), W__quants(at + 8u + block % 8u / 4u)[block % 4u]);
}

// Weights 4i to 4i + 3 of them.
fn W__row_four(words: ptr<function, W__Words>, i: u32, scale: vec2<f32>) -> vec4<f32> {
    return W__fives((*words).low[i / 2u] >> (16u * (i % 2u)), (*words).high >> (4u * i)) * scale.x - scale.y;
}

#import row_added
#import row_touch

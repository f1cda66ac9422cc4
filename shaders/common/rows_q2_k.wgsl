// Q2_K by rows: quants [row][k / 32] vec2 of 16 pairs of bits a word; scales [row][k / 256] 5 words: four of a byte for 16 columns
// (scale in its low half, minimum in its high one), then d and dmin as f16.
#lookup W__quants @Q vec2<u32>
#lookup W__scales @S u32

const W__PER_256 = 8u; // elements of 256 columns

fn W__pairs(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u));
}

// Scale and minimum of 16 columns, and of the next 16.
fn W__subs(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u));
}

// What scales and minima of step `step` of `row` are times, twice: a block of 32 columns has two of each, so `W__row` reads them.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    return unpack2x16float(W__scales((row * (steps / 4u) + step / 4u) * 5u + 4u)).xyxy;
}

struct W__Words {
    low: vec2<u32>,
    subs: u32,
}

// What is there of the 32 weights of `row` from column 32 * `block` on.
fn W__row_words(row: u32, block: u32, steps: u32) -> W__Words {
    let subs = W__scales((row * (steps / 4u) + block / 8u) * 5u + block % 8u / 2u) >> (16u * (block % 2u));
    return W__Words(W__quants(row * steps * 2u + block), subs);
}

// Weights 4i to 4i + 3 of them.
fn W__row_four(words: ptr<function, W__Words>, i: u32, scale: vec2<f32>) -> vec4<f32> {
    let subs = W__subs((*words).subs) * scale.xyxy;
    let s = select(subs.xy, subs.zw, i > 3u);
    return W__pairs((*words).low[i / 4u] >> (8u * (i % 4u))) * s.x - s.y;
}

#import row_added
#import row_touch

// Rows of 16-bit floats, which the format unpacks.

// Scale and minimum of the two blocks of 32 columns in step `step` of `row`; `steps` is the row's length in 64 columns.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    return vec4<f32>();
}

alias W__Words = array<vec4<u32>, 4>;

// What is there of the 32 weights of `row` from column 32 * `block` on.
fn W__row_words(row: u32, block: u32, steps: u32) -> W__Words {
    let at = row * steps * 8u + block * 4u;
    return W__Words(W__quants(at), W__quants(at + 1u), W__quants(at + 2u), W__quants(at + 3u));
}

// Weights 4i to 4i + 3 of them.
fn W__row_four(words: ptr<function, W__Words>, i: u32, scale: vec2<f32>) -> vec4<f32> {
    // Chosen and not indexed, for `i` may be known at run time only.
    let near = select((*words)[0], (*words)[1], i > 1u);
    let far = select((*words)[2], (*words)[3], i > 5u);
    let q = select(near, far, i > 3u);
    let pair = select(q.xy, q.zw, i % 2u == 1u);
    return vec4<f32>(W__unpack(pair.x), W__unpack(pair.y));
}

#import row_added

// F16 by rows: [row][k / 8] vec4, two values a word. No scales.
#fetch W__quants @Q vec4<u32>

const W__PER_256 = 32u; // elements of 256 columns

fn W__unpack(word: u32) -> vec2<f32> {
    return unpack2x16float(word);
}

fn W__load(at: u32) -> array<vec4<f32>, 8> {
    var w: array<vec4<f32>, 8>;
    for (var i = 0u; i < 4u; i++) {
        let q = W__quants(at + i);
        w[2u * i] = vec4<f32>(W__unpack(q.x), W__unpack(q.y));
        w[2u * i + 1u] = vec4<f32>(W__unpack(q.z), W__unpack(q.w));
    }
    return w;
}

// Scale and minimum of the two blocks of 32 columns in step `step` of `row`; `steps` is the row's length in 64 columns.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    return vec4<f32>();
}

// The 32 weights of `row` from column 32 * `block` on.
fn W__row(row: u32, block: u32, steps: u32, scale: vec2<f32>) -> array<vec4<f32>, 8> {
    return W__load(row * steps * 8u + block * 4u);
}

#import row_dot
#import row_touch

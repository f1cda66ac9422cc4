// Q8_0 by rows: quants [row][k / 16] vec4 of 4 bytes a word, scales [row][k / 64] two f16 a word.
#fetch W__quants @Q vec4<u32>
#lookup W__scales @S u32

const W__PER_256 = 16u; // elements of 256 columns

// Scale and minimum of the two blocks of 32 columns in step `step` of `row`; `steps` is the row's length in 64 columns.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    let d = unpack2x16float(W__scales(row * steps + step));
    return vec4<f32>(d.x, 0.0, d.y, 0.0);
}

// Those of the 32 weights of `row` from column 32 * `block` on.
fn W__row_integers(row: u32, block: u32, steps: u32) -> array<vec4<f32>, 8> {
    let at = row * steps * 4u + block * 2u;
    var w: array<vec4<f32>, 8>;
    for (var i = 0u; i < 2u; i++) {
        let q = W__quants(at + i);
        w[4u * i] = vec4<f32>(unpack4xI8(q.x));
        w[4u * i + 1u] = vec4<f32>(unpack4xI8(q.y));
        w[4u * i + 2u] = vec4<f32>(unpack4xI8(q.z));
        w[4u * i + 3u] = vec4<f32>(unpack4xI8(q.w));
    }
    return w;
}

#import row_integers
#import row_touch

// Q8_0. Rows: quants [row][k / 16] vec4 of 4 bytes a word, scales [row][k / 64] two f16 a word.
// Columns: quants [channel][h / 16] vec4, scales [channel / 32][h / 8] vec4 of two f16 a word.
@Q var<storage, read> W__quants: array<vec4<u32>>;
@S var<storage, read> W__scales: array<u32>;

alias W__ColumnScales = array<u32, 16>;

// Scale and minimum of the two blocks of 32 columns in step `step` of `row`.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    let d = unpack2x16float(W__scales[row * steps + step]);
    return vec4<f32>(d.x, 0.0, d.y, 0.0);
}

// The 32 weights of `row` from column 32 * `block` on; `steps` is the row's length in 64 columns.
fn W__row(row: u32, block: u32, steps: u32, scale: vec2<f32>) -> array<vec4<f32>, 8> {
    let at = row * steps * 4u + block * 2u;
    var w: array<vec4<f32>, 8>;
    for (var i = 0u; i < 2u; i++) {
        let q = W__quants[at + i];
        w[4u * i] = vec4<f32>(unpack4xI8(q.x)) * scale.x;
        w[4u * i + 1u] = vec4<f32>(unpack4xI8(q.y)) * scale.x;
        w[4u * i + 2u] = vec4<f32>(unpack4xI8(q.z)) * scale.x;
        w[4u * i + 3u] = vec4<f32>(unpack4xI8(q.w)) * scale.x;
    }
    return w;
}

// Scales of 32 outputs for the 32 channels of `group`.
fn W__column_scales(group: u32, block: u32, blocks: u32) -> W__ColumnScales {
    let at = (group * blocks + block) * 16u;
    var s: W__ColumnScales;
    for (var i = 0u; i < 16u; i++) {
        s[i] = W__scales[at + i];
    }
    return s;
}

// The weights of `channel` for the 32 outputs of `block`, of `blocks`.
fn W__column(channel: u32, block: u32, blocks: u32, scales: ptr<function, W__ColumnScales>) -> array<vec4<f32>, 8> {
    let at = (channel * blocks + block) * 2u;
    var w: array<vec4<f32>, 8>;
    for (var i = 0u; i < 2u; i++) {
        let q = W__quants[at + i];
        for (var c = 0u; c < 4u; c++) {
            let n = 4u * i + c;
            let d = vec4<f32>(unpack2x16float((*scales)[2u * n]), unpack2x16float((*scales)[2u * n + 1u]));
            w[n] = vec4<f32>(unpack4xI8(q[c])) * d;
        }
    }
    return w;
}

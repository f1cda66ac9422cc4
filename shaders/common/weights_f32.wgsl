// F32. Rows: [row][k / 4] vec4. Columns: [channel][h / 4] vec4. No scales.
@Q var<storage, read> W__values: array<vec4<f32>>;

alias W__ColumnScales = u32;

// Scale and minimum of the two blocks of 32 columns in step `step` of `row`.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    return vec4<f32>();
}

// The 32 weights of `row` from column 32 * `block` on; `steps` is the row's length in 64 columns.
fn W__row(row: u32, block: u32, steps: u32, scale: vec2<f32>) -> array<vec4<f32>, 8> {
    let at = row * steps * 16u + block * 8u;
    var w: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        w[i] = W__values[at + i];
    }
    return w;
}

// Scales of 32 outputs for the 32 channels of `group`.
fn W__column_scales(group: u32, block: u32, blocks: u32) -> W__ColumnScales {
    return 0u;
}

// The weights of `channel` for the 32 outputs of `block`, of `blocks`.
fn W__column(channel: u32, block: u32, blocks: u32, scales: ptr<function, W__ColumnScales>) -> array<vec4<f32>, 8> {
    let at = (channel * blocks + block) * 8u;
    var w: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        w[i] = W__values[at + i];
    }
    return w;
}

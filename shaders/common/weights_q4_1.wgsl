// Q4_1. Rows: quants [row][k / 32] vec4 of 8 nibbles a word, scales [row][k / 64] vec2 of (scale, minimum) f16 pairs.
// Columns: quants [channel][h / 32] vec4, scales [channel / 32][h / 2] vec2 of (scale, minimum) f16 pairs.
@Q var<storage, read> W__quants: array<vec4<u32>>;
@S var<storage, read> W__scales: array<vec2<u32>>;

alias W__ColumnScales = array<vec2<u32>, 16>;

fn W__low(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u));
}

// Scale and minimum of the two blocks of 32 columns in step `step` of `row`.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    let s = W__scales[row * steps + step];
    return vec4<f32>(unpack2x16float(s.x), unpack2x16float(s.y));
}

// The 32 weights of `row` from column 32 * `block` on; `steps` is the row's length in 64 columns.
fn W__row(row: u32, block: u32, steps: u32, scale: vec2<f32>) -> array<vec4<f32>, 8> {
    let q = W__quants[row * steps * 2u + block];
    var w: array<vec4<f32>, 8>;
    for (var c = 0u; c < 4u; c++) {
        w[2u * c] = W__low(q[c]) * scale.x + scale.y;
        w[2u * c + 1u] = W__low(q[c] >> 16u) * scale.x + scale.y;
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

// The weights of four outputs: `n`-th quadruple of the 32.
fn W__four(quants: vec4<f32>, scales: ptr<function, W__ColumnScales>, n: u32) -> vec4<f32> {
    let a = (*scales)[2u * n];
    let b = (*scales)[2u * n + 1u];
    let s0 = unpack2x16float(a.x);
    let s1 = unpack2x16float(a.y);
    let s2 = unpack2x16float(b.x);
    let s3 = unpack2x16float(b.y);
    return quants * vec4<f32>(s0.x, s1.x, s2.x, s3.x) + vec4<f32>(s0.y, s1.y, s2.y, s3.y);
}

// The weights of `channel` for the 32 outputs of `block`, of `blocks`.
fn W__column(channel: u32, block: u32, blocks: u32, scales: ptr<function, W__ColumnScales>) -> array<vec4<f32>, 8> {
    let q = W__quants[channel * blocks + block];
    var w: array<vec4<f32>, 8>;
    for (var c = 0u; c < 4u; c++) {
        w[2u * c] = W__four(W__low(q[c]), scales, 2u * c);
        w[2u * c + 1u] = W__four(W__low(q[c] >> 16u), scales, 2u * c + 1u);
    }
    return w;
}

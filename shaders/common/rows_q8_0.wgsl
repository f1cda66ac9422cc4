// Q8_0 by rows: quants [row][k / 16] vec4 of 4 bytes a word, scales [row][k / 64] two f16 a word.
#fetch W__quants @Q vec4<u32>
#fetch W__scales @S u32

// Scale and minimum of the two blocks of 32 columns in step `step` of `row`; `steps` is the row's length in 64 columns.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    let d = unpack2x16float(W__scales(row * steps + step));
    return vec4<f32>(d.x, 0.0, d.y, 0.0);
}

// The 32 weights of `row` from column 32 * `block` on.
fn W__row(row: u32, block: u32, steps: u32, scale: vec2<f32>) -> array<vec4<f32>, 8> {
    let at = row * steps * 4u + block * 2u;
    var w: array<vec4<f32>, 8>;
    for (var i = 0u; i < 2u; i++) {
        let q = W__quants(at + i);
        w[4u * i] = vec4<f32>(unpack4xI8(q.x)) * scale.x;
        w[4u * i + 1u] = vec4<f32>(unpack4xI8(q.y)) * scale.x;
        w[4u * i + 2u] = vec4<f32>(unpack4xI8(q.z)) * scale.x;
        w[4u * i + 3u] = vec4<f32>(unpack4xI8(q.w)) * scale.x;
    }
    return w;
}

alias W__Inputs = array<vec4<f32>, 8>;

fn W__inputs(xs: array<vec4<f32>, 8>) -> W__Inputs {
    return xs;
}

// The 32 weights of `row` from column 32 * `block` on, times the inputs there: integers first, for they have one scale.
fn W__row_dot(row: u32, block: u32, steps: u32, scale: vec2<f32>, inputs: ptr<function, W__Inputs>) -> f32 {
    let at = row * steps * 4u + block * 2u;
    let q = W__quants(at);
    let r = W__quants(at + 1u);
    let near = dot((*inputs)[0], vec4<f32>(unpack4xI8(q.x))) + dot((*inputs)[1], vec4<f32>(unpack4xI8(q.y)))
        + dot((*inputs)[2], vec4<f32>(unpack4xI8(q.z))) + dot((*inputs)[3], vec4<f32>(unpack4xI8(q.w)));
    let far = dot((*inputs)[4], vec4<f32>(unpack4xI8(r.x))) + dot((*inputs)[5], vec4<f32>(unpack4xI8(r.y)))
        + dot((*inputs)[6], vec4<f32>(unpack4xI8(r.z))) + dot((*inputs)[7], vec4<f32>(unpack4xI8(r.w)));
    return (near + far) * scale.x;
}

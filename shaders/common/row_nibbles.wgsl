// Products of a format of 4-bit integers q, whose weights are scale * q + minimum: the integers are multiplied where they lie in
// their word, 1, 16, 256 or 4096 times too large, and the inputs make up for it.
struct W__Inputs {
    x: array<vec4<f32>, 8>,
    sum: f32,
}

fn W__inputs(xs: array<vec4<f32>, 8>) -> W__Inputs {
    var inputs: W__Inputs;
    var sum = vec4<f32>();
    for (var i = 0u; i < 8u; i++) {
        sum += xs[i];
        inputs.x[i] = xs[i] * vec4<f32>(1.0, 0.0625, 0.00390625, 0.000244140625);
    }
    inputs.sum = dot(sum, vec4<f32>(1.0));
    return inputs;
}

// The integers of the nibbles in the low half of `word`, where they lie.
fn W__in_place(word: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) & vec4<u32>(0xfu, 0xf0u, 0xf00u, 0xf000u)));
}

// The 32 weights of `row` from column 32 * `block` on, times the inputs there.
fn W__row_dot(row: u32, block: u32, steps: u32, scale: vec2<f32>, inputs: ptr<function, W__Inputs>) -> f32 {
    let q = W__quants(row * steps * 2u + block);
    let near = dot((*inputs).x[0], W__in_place(q.x)) + dot((*inputs).x[1], W__in_place(q.x >> 16u))
        + dot((*inputs).x[2], W__in_place(q.y)) + dot((*inputs).x[3], W__in_place(q.y >> 16u));
    let far = dot((*inputs).x[4], W__in_place(q.z)) + dot((*inputs).x[5], W__in_place(q.z >> 16u))
        + dot((*inputs).x[6], W__in_place(q.w)) + dot((*inputs).x[7], W__in_place(q.w >> 16u));
    return (near + far) * scale.x + (*inputs).sum * W__minimum(scale);
}

// x[t, h] += bias[h], in place.
struct Params {
    tokens: u32,
    width: u32, // / 4
}

@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> bias: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    if at.x >= p.width {
        return;
    }
    let i = at.y * p.width + at.x;
    x[i] = x[i] + bias[at.x];
}

// x[t] += table[position(t) + offset]: learned positions.
struct Params {
    width: u32,  // columns / 4
    offset: u32, // rows of the table before that of position 0
}

@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> places: array<vec2<u32>>; // position and slot of every token
@group(0) @binding(2) var<storage, read> table: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    if at.x >= p.width {
        return;
    }
    let i = at.y * p.width + at.x;
    x[i] += table[(places[at.y].x + p.offset) * p.width + at.x];
}

// Rotary position embedding in place: x [tokens][heads][2 * half].
struct Params {
    heads: u32,
    half: u32,
    adjacent: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read> places: array<vec2<u32>>; // position and slot of every token
@group(0) @binding(2) var<storage, read> turns: array<vec2<f32>>; // [position][half] cosine and sine
@group(1) @binding(0) var<uniform> p: Params;
#import rope_pair

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let index = at.x;
    let token = at.y;
    if index >= p.heads * p.half {
        return;
    }
    let i = index % p.half;
    let head = (token * p.heads + index / p.half) * 2u * p.half;
    let pair = rope_pair(i, p.half, p.adjacent != 0u) + vec2<u32>(head);
    let turned = rope_turn(x[pair.x], x[pair.y], turns[places[token].x * p.half + i]);
    x[pair.x] = turned.x;
    x[pair.y] = turned.y;
}

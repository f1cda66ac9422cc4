// out[c] = mean[c] where the unit of channel c was dropped, else 0: what a compensation puts back, before the weights.
struct Params {
    width: u32, // channels
    unit: u32,  // channels of a unit
}

@group(0) @binding(0) var<storage, read> mean: array<f32>;
@group(0) @binding(1) var<storage, read> place_of: array<u32>; // as top_k writes it
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

const DROPPED = 0x80000000u; // see top_k

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let c = at.x;
    if c >= p.width {
        return;
    }
    out[c] = select(0.0, mean[c], place_of[c / p.unit] >= DROPPED);
}

// scores[u] = || f[c] * power[c] ||2 over the channels c of unit u: the PPsp score, factorised.
struct Params {
    units: u32,
    unit: u32, // channels of a unit: 1, or head_dim for a head
}

@group(0) @binding(0) var<storage, read> f: array<f32>;
@group(0) @binding(1) var<storage, read> power: array<f32>;
@group(0) @binding(2) var<storage, read_write> scores: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let u = at.x;
    if u >= p.units {
        return;
    }
    if p.unit == 1u {
        scores[u] = f[u] * power[u]; // the root of a square could overflow or vanish
        return;
    }
    // Squares are taken of the parts of the largest, for the same reason.
    var largest = 0.0;
    for (var i = 0u; i < p.unit; i++) {
        largest = max(largest, f[u * p.unit + i] * power[u * p.unit + i]);
    }
    var sum = 0.0;
    if largest > 0.0 {
        for (var i = 0u; i < p.unit; i++) {
            let part = f[u * p.unit + i] * power[u * p.unit + i] / largest;
            sum += part * part;
        }
    }
    scores[u] = largest * sqrt(sum);
}

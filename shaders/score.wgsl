// scores[u]: the score of unit u from the parts f[c] * power[c] (or sqrt(f[c]) * power[c]) of its channels c: their L2 norm
// (PPsp), sum (Wanda) or mean (FLAP). Units of a group share one score, that of all their channels together.
struct Params {
    units: u32,
    unit: u32,   // channels of a unit: 1, or head_dim for a head
    group: u32,  // units that share a score
    root: u32,   // whether the root of f is taken
    reduce: u32, // 0: L2 norm, 1: sum, 2: mean
}

@group(0) @binding(0) var<storage, read> f: array<f32>;
@group(0) @binding(1) var<storage, read> power: array<f32>;
@group(0) @binding(2) var<storage, read_write> scores: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

fn part(c: u32) -> f32 {
    return select(f[c], sqrt(f[c]), p.root != 0u) * power[c];
}

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let u = at.x;
    if u >= p.units {
        return;
    }
    let channels = p.group * p.unit;
    let first = u / p.group * channels;
    if channels == 1u {
        scores[u] = part(u); // the root of a square could overflow or vanish
        return;
    }
    if p.reduce != 0u {
        var sum = 0.0;
        for (var i = 0u; i < channels; i++) {
            sum += part(first + i);
        }
        scores[u] = select(sum, sum / f32(channels), p.reduce == 2u);
        return;
    }
    // Squares are taken of the parts of the largest, for the same reason.
    var largest = 0.0;
    for (var i = 0u; i < channels; i++) {
        largest = max(largest, part(first + i));
    }
    var sum = 0.0;
    if largest > 0.0 {
        for (var i = 0u; i < channels; i++) {
            let share = part(first + i) / largest;
            sum += share * share;
        }
    }
    scores[u] = largest * sqrt(sum);
}

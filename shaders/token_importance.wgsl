// scores[t] = sqrt(sum over samples of norms[b, t]^2): which positions of the batch matter. Padding never counts.
struct Params {
    samples: u32,
    length: u32,
}

@group(0) @binding(0) var<storage, read> norms: array<f32>;
@group(0) @binding(1) var<storage, read> lengths: array<u32>;
@group(0) @binding(2) var<storage, read_write> scores: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let t = at.x;
    if t >= p.length {
        return;
    }
    var sum = 0.0;
    for (var b = 0u; b < p.samples; b++) {
        if t < lengths[b] {
            let n = norms[b * p.length + t];
            sum += n * n;
        }
    }
    scores[t] = sqrt(sum);
}

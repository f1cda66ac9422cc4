// scores[b] = sqrt(sum over the probe's tokens of norms[b, t]^2): which samples matter there. Padding never counts.
struct Params {
    samples: u32,
    length: u32,
    probe_tokens: u32,
}

@group(0) @binding(0) var<storage, read> norms: array<f32>;
@group(0) @binding(1) var<storage, read> lengths: array<u32>;
@group(0) @binding(2) var<storage, read> tokens: array<u32>;
@group(0) @binding(3) var<storage, read_write> scores: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let b = at.x;
    if b >= p.samples {
        return;
    }
    var sum = 0.0;
    for (var j = 0u; j < p.probe_tokens; j++) {
        let t = tokens[j];
        if t < lengths[b] {
            let n = norms[b * p.length + t];
            sum += n * n;
        }
    }
    scores[b] = sqrt(sum);
}

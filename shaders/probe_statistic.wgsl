// a[j, c] = mean over the probe's samples of p[i, j, c]^2, or of (p[i, j, c] - mean[c])^2. Padding never counts. An invocation
// has four channels.
struct Params {
    samples: u32, // of the probe
    tokens: u32,  // of the probe
    width: u32,   // channels
    stride: u32,  // columns of a row of the probe, a multiple of 4
    centred: u32, // whether `mean` is subtracted
}

@group(0) @binding(0) var<storage, read> probe: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> samples: array<u32>;
@group(0) @binding(2) var<storage, read> tokens: array<u32>;
@group(0) @binding(3) var<storage, read> lengths: array<u32>;
@group(0) @binding(4) var<storage, read> mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> a: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let c = at.x * 4u;
    let j = at.y;
    if c >= p.width {
        return;
    }
    let own = min(p.width - c, 4u); // what is left is padding
    var centre = vec4<f32>();
    if p.centred != 0u {
        for (var n = 0u; n < own; n++) {
            centre[n] = mean[c + n];
        }
    }
    var sum = vec4<f32>();
    var count = 0.0;
    for (var i = 0u; i < p.samples; i++) {
        if tokens[j] < lengths[samples[i]] {
            let v = probe[(i * p.tokens + j) * (p.stride / 4u) + at.x] - centre;
            sum += v * v;
            count += 1.0;
        }
    }
    for (var n = 0u; n < own; n++) {
        a[j * p.width + c + n] = sum[n] / max(count, 1.0);
    }
}

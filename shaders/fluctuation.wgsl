// FLAP's running statistics of a channel, one sample after another: with sample number n (from 1) the mean becomes
// ((n - 1) mean + mean of the sample) / n, and the fluctuation, from the second sample on,
// (n - 2) / (n - 1) fluctuation + (sum over the sample's tokens of (x - mean) (x - mean before the sample)) / n.
struct Params {
    samples: u32, // in x
    length: u32,  // tokens of a sample
    width: u32,
    stride: u32,  // columns of a row of x
    before: u32,  // samples that came earlier
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> mean: array<f32>;
@group(0) @binding(2) var<storage, read_write> fluctuation: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let c = at.x;
    if c >= p.width {
        return;
    }
    var m = mean[c];
    var f = fluctuation[c];
    for (var b = 0u; b < p.samples; b++) {
        let row = b * p.length;
        var sum = 0.0;
        for (var t = 0u; t < p.length; t++) {
            sum += x[(row + t) * p.stride + c];
        }
        let n = f32(p.before + b + 1u);
        let old = m;
        m += (sum / f32(p.length) - m) / n;
        if n > 1.5 {
            var products = 0.0;
            for (var t = 0u; t < p.length; t++) {
                let v = x[(row + t) * p.stride + c];
                products += (v - m) * (v - old);
            }
            f = f * ((n - 2.0) / (n - 1.0)) + products / n;
        }
    }
    mean[c] = m;
    fluctuation[c] = f;
}

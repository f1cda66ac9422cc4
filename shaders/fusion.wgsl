// f[c] = sum over tokens of w a + (1 - w) h: the fusion of the probe with history, summed over the probe's tokens. The weight is
// w = a / (a + h + 1e-6), the importance-scaled fusion of the paper's equation 7, or a fixed one.
struct Params {
    tokens: u32,  // rows of a
    width: u32,   // channels
    history: u32, // whether there is one
    kind: u32,    // its rows, as history_row says
    rows: u32,
    scale: f32,   // a is this times what the buffer holds (1 / tokens of a running sum)
    weight: f32,  // of the probe; negative: importance-scaled
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> tokens: array<u32>;
@group(0) @binding(2) var<storage, read> h: array<f32>;
@group(0) @binding(3) var<storage, read_write> f: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
#import history_row

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let c = at.x;
    if c >= p.width {
        return;
    }
    var sum = 0.0;
    for (var j = 0u; j < p.tokens; j++) {
        let now = a[j * p.width + c] * p.scale;
        if p.history == 0u {
            sum += now;
        } else {
            var row = 0u;
            if p.kind != 0u {
                row = history_row(tokens[j], p.kind, p.rows);
            }
            let past = h[row * p.width + c];
            let w = select(p.weight, now / (now + past + 1e-6), p.weight < 0.0);
            sum += w * now + (1.0 - w) * past;
        }
    }
    f[c] = sum;
}

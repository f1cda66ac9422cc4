// shares[u]: how much of the fused statistic of unit u came from the history, in [0, 1]: sum of (1 - w) h over sum of
// w a + (1 - w) h, over the unit's channels and the probe's tokens, with the weights w of fusion. For whoever watches.
struct Params {
    units: u32,
    unit: u32,   // channels of a unit
    tokens: u32, // rows of a
    kind: u32,   // rows of h, as history_row says
    rows: u32,
    scale: f32,  // a is this times what the buffer holds
    weight: f32, // of the probe; negative: importance-scaled
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> tokens: array<u32>;
@group(0) @binding(2) var<storage, read> h: array<f32>;
@group(0) @binding(3) var<storage, read_write> shares: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
#import history_row

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let u = at.x;
    if u >= p.units {
        return;
    }
    let width = p.units * p.unit;
    var now_sum = 0.0;
    var past_sum = 0.0;
    for (var j = 0u; j < p.tokens; j++) {
        var row = 0u;
        if p.kind != 0u {
            row = history_row(tokens[j], p.kind, p.rows);
        }
        for (var c = u * p.unit; c < (u + 1u) * p.unit; c++) {
            let now = a[j * width + c] * p.scale;
            let past = h[row * width + c];
            let w = select(p.weight, now / (now + past + 1e-6), p.weight < 0.0);
            now_sum += w * now;
            past_sum += (1.0 - w) * past;
        }
    }
    shares[u] = select(0.0, past_sum / (now_sum + past_sum), past_sum > 0.0);
}

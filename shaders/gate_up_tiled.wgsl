// gate_up for many tokens on hardware: 64 tokens by 32 outputs a workgroup. Of the tile's 64 columns the first half are rows of gate,
// the second the same rows of up, so that an invocation has both sums of its outputs.
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
#weights gate 1
#weights up 3
#lookup kept 5 vec4<u32>
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

#import row_params
#import tile
#import row_product

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_token = group.y * TOKENS;
    let first_output = group.x * 32u;
    let m = lane / 16u;
    let n = lane % 16u;
    let row = min(row_of(first_output + lane % 32u), p.rows - 1u);
    var scales = vec4<f32>();
    var sums: array<vec4<f32>, 8>;
    for (var block = 0u; block < 2u * p.steps; block++) {
        load_inputs(lane, first_token, block);
        if lane < 32u {
            if block % 2u == 0u {
                scales = gate_row_scales(row, block / 2u, p.steps);
            }
            var w = gate_row(row, block, p.steps, select(scales.xy, scales.zw, block % 2u == 1u));
            for (var k = 0u; k < 8u; k++) {
                ws[k * 64u + lane] = w[k];
            }
        } else if lane < 64u {
            if block % 2u == 0u {
                scales = up_row_scales(row, block / 2u, p.steps);
            }
            var w = up_row(row, block, p.steps, select(scales.xy, scales.zw, block % 2u == 1u));
            for (var k = 0u; k < 8u; k++) {
                ws[k * 64u + lane] = w[k];
            }
        }
        workgroupBarrier();
        add_products(m, n, &sums);
        workgroupBarrier();
    }
    for (var i = 0u; i < 8u; i++) {
        let token = first_token + m + 8u * i;
        for (var j = 0u; j < 2u; j++) {
            let output = first_output + n + 16u * j;
            if token < p.tokens && row_of(output) < p.rows {
                let gate = sums[i][j];
                y[(p.y_row + token) * p.y_stride + p.y_column + output] = gate / (1.0 + exp(-gate)) * sums[i][j + 2u];
            }
        }
    }
}

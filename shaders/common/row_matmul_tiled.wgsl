// A matmul by rows for many tokens on hardware: 64 tokens by 64 outputs a workgroup.
@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_token = group.y * TOKENS;
    let first_output = group.x * 64u;
    let m = lane / 16u;
    let n = lane % 16u;
    let row = min(row_of(first_output + lane % 64u), p.rows - 1u);
    var scales = vec4<f32>();
    var sums: array<vec4<f32>, 8>;
    for (var block = 0u; block < 2u * p.steps; block++) {
        load_inputs(lane, first_token, block);
        if lane < 64u {
            if block % 2u == 0u {
                scales = weight_row_scales(row, block / 2u, p.steps);
            }
            var w = weight_row(row, block, p.steps, select(scales.xy, scales.zw, block % 2u == 1u));
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
        for (var j = 0u; j < 4u; j++) {
            let output = first_output + n + 16u * j;
            if token < p.tokens && row_of(output) < p.rows {
                y[(p.y_row + token) * p.y_stride + p.y_column + output] = result(sums[i][j], row_of(output));
            }
        }
    }
}

enable f16;
enable wgpu_cooperative_matrix;
// gate_up for many tokens on matrix units: 64 tokens by 32 outputs a workgroup. Of the 32 columns of a subgroup the first half are
// rows of gate, the second the same rows of up. x lies as half_rows leaves it.
@group(0) @binding(0) var<storage, read> x: array<vec4<f16>>;
#weights gate 1
#weights up 3
#lookup kept 5 vec4<u32>
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

#import row_params
#import matrix_tile

var<workgroup> rows: array<u32, 32>; // [output]: the shard's row, p.rows = nobody's

// The output of a column of the tile.
fn output_of(column: u32) -> u32 {
    return column / 32u * 16u + column % 16u;
}

// Writes what comes of `gates` and a matrix of up's sums of each subgroup.
fn write(lane: u32, first_token: u32, first_output: u32, i: u32, j: u32, gates: ptr<function, array<f32, ${EACH}>>) {
    for (var e = 0u; e < ${EACH}u; e++) {
        let element = lane + e * LANES;
        let place = place_of_sum(element, i, j);
        let token = first_token + place.x;
        let output = output_of(place.y);
        if token < p.tokens && rows[output] < p.rows {
            let gate = (*gates)[e] * power(p.exponent) * powers[place.x];
            let up = sums[element] * power(p.up_exponent) * powers[place.x];
            y[(p.y_row + token) * p.y_stride + p.y_column + first_output + output] = gate / (1.0 + exp(-gate)) * up;
        }
    }
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let first_token = group.y * TOKENS;
    let first_output = group.x * 32u;
    let x_row = p.steps * 16u + 2u;
    begin(lane, first_token, x_row);
    for (var i = lane; i < 32u; i += LANES) {
        rows[i] = row_of(first_output + i);
    }
    workgroupBarrier();
#import matrix_place
#repeat i SPAN
#repeat j HALF
    var gate_${i}_${j} = coopLoadT<Sum>(&sums[0], SIDE);
    var up_${i}_${j} = coopLoadT<Sum>(&sums[0], SIDE);
#end
#end
    for (var block = 0u; block < 2u * p.steps; block++) {
        load_inputs(lane, first_token, x_row, block);
        for (var i = lane; i < 64u; i += LANES) {
            let row = min(rows[output_of(i)], p.rows - 1u);
            var w: array<vec4<f32>, 8>;
            var exponent = p.exponent;
            if i % 32u < 16u {
                let scales = gate_row_scales(row, block / 2u, p.steps);
                w = gate_row(row, block, p.steps, select(scales.xy, scales.zw, block % 2u == 1u));
            } else {
                let scales = up_row_scales(row, block / 2u, p.steps);
                w = up_row(row, block, p.steps, select(scales.xy, scales.zw, block % 2u == 1u));
                exponent = p.up_exponent;
            }
            for (var k = 0u; k < 8u; k++) {
                keep_weights(i * X_STRIDE + k * 4u, w[k] * power(-exponent));
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k += SIDE) {
#repeat i SPAN
            let x_${i} = coopLoadT<Left>(&xs[(m + ${i}u * SIDE) * X_STRIDE + k], X_STRIDE);
#end
#repeat j HALF
            let g_${j} = coopLoad<Right>(&ws[(n + ${j}u * SIDE) * X_STRIDE + k], X_STRIDE);
            let u_${j} = coopLoad<Right>(&ws[(n + 16u + ${j}u * SIDE) * X_STRIDE + k], X_STRIDE);
#end
#repeat i SPAN
#repeat j HALF
            gate_${i}_${j} = coopMultiplyAdd(x_${i}, g_${j}, gate_${i}_${j});
            up_${i}_${j} = coopMultiplyAdd(x_${i}, u_${j}, up_${i}_${j});
#end
#end
        }
        workgroupBarrier();
    }
    var gates: array<f32, ${EACH}>;
#repeat i SPAN
#repeat j HALF
    coopStoreT(gate_${i}_${j}, &sums[quarter * SIDE * SIDE], SIDE);
    workgroupBarrier();
    for (var e = 0u; e < ${EACH}u; e++) {
        gates[e] = sums[lane + e * LANES];
    }
    workgroupBarrier();
    coopStoreT(up_${i}_${j}, &sums[quarter * SIDE * SIDE], SIDE);
    workgroupBarrier();
    write(lane, first_token, first_output, ${i}u, ${j}u, &gates);
    workgroupBarrier();
#end
#end
}

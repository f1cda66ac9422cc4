// A matmul by rows for many tokens on matrix units: 64 tokens by 64 outputs a workgroup. x lies as half_rows leaves it.
var<workgroup> rows: array<u32, 64>; // [column]: the shard's row, p.rows = nobody's

// Writes a matrix of each subgroup.
fn write(lane: u32, first_token: u32, first_output: u32, i: u32, j: u32) {
    for (var element = lane; element < 4u * SIDE * SIDE; element += LANES) {
        let place = place_of_sum(element, i, j);
        let token = first_token + place.x;
        if token < p.tokens && rows[place.y] < p.rows {
            let value = sums[element] * power(p.exponent) * powers[place.x];
            y[(p.y_row + token) * p.y_stride + p.y_column + first_output + place.y] = result(value, rows[place.y]);
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
    let first_output = group.x * 64u;
    let x_row = p.steps * 16u + 2u;
    begin(lane, first_token, x_row);
    for (var i = lane; i < 64u; i += LANES) {
        rows[i] = row_of(first_output + i);
    }
    workgroupBarrier();
#import matrix_place
#repeat i SPAN
#repeat j SPAN
    var sum_${i}_${j} = coopLoadT<Sum>(&sums[0], SIDE);
#end
#end
    for (var block = 0u; block < 2u * p.steps; block++) {
        load_inputs(lane, first_token, x_row, block);
        for (var i = lane; i < 64u; i += LANES) {
            let row = min(rows[i], p.rows - 1u);
            let scales = weight_row_scales(row, block / 2u, p.steps);
            var w = weight_row(row, block, p.steps, select(scales.xy, scales.zw, block % 2u == 1u));
            for (var k = 0u; k < 8u; k++) {
                keep_weights(i * X_STRIDE + k * 4u, w[k] * power(-p.exponent));
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k += SIDE) {
#repeat i SPAN
            let x_${i} = coopLoadT<Left>(&xs[(m + ${i}u * SIDE) * X_STRIDE + k], X_STRIDE);
#end
#repeat j SPAN
            let w_${j} = coopLoad<Right>(&ws[(n + ${j}u * SIDE) * X_STRIDE + k], X_STRIDE);
#end
#repeat i SPAN
#repeat j SPAN
            sum_${i}_${j} = coopMultiplyAdd(x_${i}, w_${j}, sum_${i}_${j});
#end
#end
        }
        workgroupBarrier();
    }
#repeat i SPAN
#repeat j SPAN
    coopStoreT(sum_${i}_${j}, &sums[quarter * SIDE * SIDE], SIDE);
    workgroupBarrier();
    write(lane, first_token, first_output, ${i}u, ${j}u);
    workgroupBarrier();
#end
#end
}

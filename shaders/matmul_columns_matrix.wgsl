enable f16;
enable wgpu_cooperative_matrix;
// matmul_columns for many tokens on matrix units: 64 tokens by 64 outputs (two blocks of 32) a workgroup, 32 kept inputs at a time.
// Parts of the inputs that stay apart are workgroups along z. x, the activations, lies as half_rows leaves it.
@group(0) @binding(0) var<storage, read> x: array<vec4<f16>>;
#weights weight 1
#lookup kept 3 vec4<u32>
#lookup place_of 4 vec4<u32>
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

#import column_params
#import matrix_tile

const W_STRIDE = 72u; // of ws as [input][column]

// Writes a matrix of each subgroup.
fn write(lane: u32, first_token: u32, first_column: u32, part: u32, i: u32, j: u32) {
    for (var element = lane; element < 4u * SIDE * SIDE; element += LANES) {
        let place = place_of_sum(element, i, j);
        let token = first_token + place.x;
        let column = first_column + place.y;
        if token < p.tokens && column < p.blocks * 32u {
            let at = 4u * (part * p.part_stride + (p.y_row + token) * p.y_stride + p.y_column) + column;
            var value = sums[element] * power(p.exponent) * powers[place.x];
            if p.add != 0u {
                value += y[at];
            }
            y[at] = value;
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
    // Tiles of inputs, cut into parts as evenly as whole ones allow.
    let tiles = (p.inputs + DEPTH - 1u) / DEPTH;
    let x_row = tiles * (DEPTH / 4u) + 2u;
    begin(lane, first_token, x_row);
    workgroupBarrier();
#import matrix_place
#repeat i SPAN
#repeat j SPAN
    var sum_${i}_${j} = coopLoadT<Sum>(&sums[0], SIDE);
#end
#end
    for (var tile = group.z * tiles / p.parts; tile < (group.z + 1u) * tiles / p.parts; tile++) {
        load_inputs(lane, first_token, x_row, tile);
        for (var i = lane; i < 64u; i += LANES) {
            let block = block_of(min(group.x * 2u + i / 32u, p.blocks - 1u));
            // An input past the last is one that is there: its activations are zeros.
            let input = min(tile * DEPTH + i % 32u, p.inputs - 1u);
            let channel = min(channels_of(input / 4u * 4u)[input % 4u], p.channels - 1u);
            var scales = weight_column_scales(channel / 32u, block);
            var bits = weight_bits(channel, block);
            for (var k = 0u; k < 8u; k++) {
                let w = weight_four(&bits, k, &scales);
                keep_weights(i % 32u * W_STRIDE + i / 32u * 32u + k * 4u, w * power(-p.exponent));
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k += SIDE) {
#repeat i SPAN
            let x_${i} = coopLoadT<Left>(&xs[(m + ${i}u * SIDE) * X_STRIDE + k], X_STRIDE);
#end
#repeat j SPAN
            let w_${j} = coopLoadT<Right>(&ws[k * W_STRIDE + n + ${j}u * SIDE], W_STRIDE);
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
    write(lane, first_token, group.x * 64u, group.z, ${i}u, ${j}u);
    workgroupBarrier();
#end
#end
}

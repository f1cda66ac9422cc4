// matmul_columns for many tokens on hardware: 64 tokens by 64 outputs (two blocks of 32) a workgroup, 32 kept inputs at a time.
// Parts of the inputs that stay apart are workgroups along z.
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
#weights weight 1
#lookup kept 3 vec4<u32>
#lookup place_of 4 vec4<u32>
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

#import column_params
#import tile

// Where outputs 4 * n to 4 * n + 3 of the tile's input `k` lie.
fn place_of_w(k: u32, n: u32) -> u32 {
    return k * 16u + (n + k) % 16u;
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_token = group.y * TOKENS;
    let m = lane / 16u;
    let n = lane % 16u;
    let block = block_of(min(group.x * 2u + lane / 32u % 2u, p.blocks - 1u));
    // Tiles of inputs, cut into parts as evenly as whole ones allow.
    let tiles = (p.inputs + DEPTH - 1u) / DEPTH;
    var sums: array<vec4<f32>, 8>;
    for (var tile = group.z * tiles / p.parts; tile < (group.z + 1u) * tiles / p.parts; tile++) {
        for (var i = lane; i < TOKENS * DEPTH / 4u; i += LANES) {
            let token = min(first_token + i / 8u, p.tokens - 1u);
            let quad = tile * 8u + i % 8u;
            var value = vec4<f32>();
            if quad * 4u < p.inputs {
                let inputs = vec4<u32>(quad * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
                value = select(vec4<f32>(), a[(p.a_row + token) * (p.a_stride / 4u) + quad], inputs < vec4<u32>(p.inputs));
            }
            xs[place_of_x(i / 8u, i % 8u)] = value;
        }
        if lane < 64u {
            // An input past the last is one that is there: its activations are zeros.
            let input = min(tile * DEPTH + lane % 32u, p.inputs - 1u);
            let channel = min(channels_of(input / 4u * 4u)[input % 4u], p.channels - 1u);
            var scales = weight_column_scales(channel / 32u, block);
            var bits = weight_bits(channel, block);
            for (var i = 0u; i < 8u; i++) {
                ws[place_of_w(lane % 32u, lane / 32u * 8u + i)] = weight_four(&bits, i, &scales);
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH / 4u; k++) {
            let w0 = ws[place_of_w(4u * k, n)];
            let w1 = ws[place_of_w(4u * k + 1u, n)];
            let w2 = ws[place_of_w(4u * k + 2u, n)];
            let w3 = ws[place_of_w(4u * k + 3u, n)];
            for (var i = 0u; i < 8u; i++) {
                let x = xs[place_of_x(m + 8u * i, k)];
                sums[i] += x.x * w0 + x.y * w1 + x.z * w2 + x.w * w3;
            }
        }
        workgroupBarrier();
    }
    let column = group.x * 16u + n;
    for (var i = 0u; i < 8u; i++) {
        let token = first_token + m + 8u * i;
        if token < p.tokens && column < p.blocks * 8u {
            let at = group.z * p.part_stride + (p.y_row + token) * p.y_stride + p.y_column + column;
            var value = sums[i];
            if p.add != 0u {
                value += y[at];
            }
            y[at] = value;
        }
    }
}

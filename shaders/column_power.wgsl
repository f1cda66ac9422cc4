// power[c] = sum |W[h, c]|, sum W[h, c]^2 or sqrt(sum W[h, c]^4) over outputs: the constant factor of a channel's score.
struct Params {
    channels: u32,
    blocks: u32, // outputs of this shard / 32
    block_quants: u32, // see column_block
    block_scales: u32,
    add: u32,    // whether an earlier shard's part is there already
    degree: u32, // 1, 2 or 4
}

#weights weight 0
@group(0) @binding(2) var<storage, read_write> power: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

#import column_block

@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let c = at.x;
    if c >= p.channels {
        return;
    }
    var sum = 0.0;
    for (var index = 0u; index < p.blocks; index++) {
        let block = block_of(index);
        var scales = weight_column_scales(c / 32u, block);
        var bits = weight_bits(c, block);
        for (var i = 0u; i < 8u; i++) {
            let w = weight_four(&bits, i, &scales);
            let square = w * w;
            if p.degree == 4u {
                sum += dot(square, square);
            } else if p.degree == 2u {
                sum += dot(square, vec4<f32>(1.0));
            } else {
                sum += dot(abs(w), vec4<f32>(1.0));
            }
        }
    }
    if p.degree != 4u {
        if p.add != 0u {
            sum += power[c];
        }
        power[c] = sum;
        return;
    }
    if p.add != 0u {
        sum += power[c] * power[c];
    }
    power[c] = sqrt(sum);
}

// fc1 for one or two tokens.
#fetch x 0 vec4<f32>
#weights weight 1
#lookup kept 3 vec4<u32>
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>; // of every row of the weight, those of other shards too
#store beside 6
@group(1) @binding(0) var<uniform> p: Params;

#import row_params

fn result(sum: f32, row: u32) -> f32 {
    return max(sum + bias[p.first_row + row], 0.0);
}

#import row_few

// matmul_rows for one or two tokens.
#fetch x 0 vec4<f32>
#weights weight 1
#lookup kept 3 vec4<u32>
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
#store beside 5
@group(1) @binding(0) var<uniform> p: Params;

#import row_params

fn result(sum: f32, row: u32) -> f32 {
    return sum;
}

#import row_few

enable f16;
enable wgpu_cooperative_matrix;
// matmul_rows for many tokens on matrix units.
@group(0) @binding(0) var<storage, read> x: array<vec4<f16>>;
#weights weight 1
#lookup kept 3 vec4<u32>
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

#import row_params
#import matrix_tile

fn result(sum: f32, row: u32) -> f32 {
    return sum;
}

#import row_matmul_matrix

enable f16;
enable wgpu_cooperative_matrix;
// out[group][r][c] = what CHAINS chains that take sum = a b + sum, UNROLL * rounds times, come to, for each of the four subgroups of a
// workgroup: nothing but the arithmetic of matrix units. a[r][k] = left * (1 + r % 4), b[k][c] = right * (1 + c % 4).
struct Params {
    groups: u32, // workgroups that write
    row: u32,    // workgroups of a row of the grid
    rounds: u32, // of UNROLL steps each
    left: f32,
    right: f32,
}

@group(0) @binding(0) var<storage, read_write> out: array<f32>; // [group][subgroup][SIDE][SIDE]
@group(1) @binding(0) var<uniform> p: Params;

const SIDE = ${SIDE}u;
const LANES = ${LANES}u;
const UNROLL = ${UNROLL}u;

alias Left = coop_mat${SIDE}x${SIDE}<f16, A>;
alias Right = coop_mat${SIDE}x${SIDE}<f16, B>;
alias Sum = coop_mat${SIDE}x${SIDE}<f32, C>;

var<workgroup> left: array<f16, ${AREA}>;
var<workgroup> right: array<f16, ${AREA}>;
var<workgroup> sums: array<f32, ${SUMS}>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    for (var i = lane; i < SIDE * SIDE; i += LANES) {
        left[i] = f16(p.left * f32(1u + i / SIDE % 4u));
        right[i] = f16(p.right * f32(1u + i % SIDE % 4u));
        sums[i] = 0.0;
    }
    workgroupBarrier();
    let a = coopLoadT<Left>(&left[0], SIDE);
    let b = coopLoadT<Right>(&right[0], SIDE);
#repeat c CHAINS
    var sum_${c} = coopLoadT<Sum>(&sums[0], SIDE);
#end
    for (var round = 0u; round < p.rounds; round++) {
        for (var u = 0u; u < UNROLL; u++) {
#repeat c CHAINS
            sum_${c} = coopMultiplyAdd(a, b, sum_${c});
#end
        }
    }
    workgroupBarrier();
    var total: array<f32, ${EACH}>;
#repeat c CHAINS
    coopStoreT(sum_${c}, &sums[subgroup % 4u * SIDE * SIDE], SIDE);
    workgroupBarrier();
    for (var e = 0u; e < ${EACH}u; e++) {
        total[e] += sums[lane + e * LANES];
    }
    workgroupBarrier();
#end
    let index = group.y * p.row + group.x;
    if index < p.groups {
        for (var e = 0u; e < ${EACH}u; e++) {
            out[index * ${SUMS}u + lane + e * LANES] = total[e];
        }
    }
}

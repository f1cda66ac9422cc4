// A tile of 64 tokens by 64 outputs in a workgroup of 128 invocations, 32 inputs at a time through workgroup memory; an
// invocation sums 8 tokens by 4 outputs. Places are rotated by their row so that neither stores nor loads of neighbours meet in a bank.
const TOKENS = 64u;
const DEPTH = 32u;
const LANES = 128u;

var<workgroup> xs: array<vec4<f32>, 512>; // [inputs / 4][token], rotated
var<workgroup> ws: array<vec4<f32>, 512>;

// Where inputs 4 * k to 4 * k + 3 of a token lie.
fn place_of_x(token: u32, k: u32) -> u32 {
    return k * TOKENS + (token + k) % TOKENS;
}

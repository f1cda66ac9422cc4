#import row

// `sum` plus those weights times the inputs there, each four used as they come: all 32 would not stay in registers. Added one after
// the other, as prompt tiles of software adapters do, so that there a row's result is the same alone and among others.
fn W__row_added(sum: f32, row: u32, block: u32, steps: u32, scale: vec2<f32>, xs: ptr<function, array<vec4<f32>, 8>>) -> f32 {
    var words = W__row_words(row, block, steps);
    var added = sum;
    for (var i = 0u; i < 8u; i++) {
        added += dot((*xs)[i], W__row_four(&words, i, scale));
    }
    return added;
}

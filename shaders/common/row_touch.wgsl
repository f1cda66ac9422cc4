// For rows that lie apart, in which a processor sees no stream.

// Elements of a row of `steps` times 64 columns.
fn W__row_elements(steps: u32) -> u32 {
    return steps * W__PER_256 / 4u;
}

// A word of the element `at` of `row`: with it, its line of memory comes.
fn W__touch(row: u32, at: u32, steps: u32) -> u32 {
    return W__quants(row * W__row_elements(steps) + at).x;
}

// IQ4_NL by rows: as Q4_0, but nibbles are indices of levels: quants [row][k / 32] vec4 of 8 nibbles a word, scales [row][k / 64]
// two f16 a word.
#fetch W__quants @Q vec4<u32>
#lookup W__scales @S u32

const W__PER_256 = 8u; // elements of 256 columns

// The levels of four nibbles: -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113, as signed bytes of
// four words that are chosen by comparison, for an array that is indexed at run time would lie in memory.
fn W__levels(word: u32) -> vec4<f32> {
    let q = (vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    let odd = (q & vec4<u32>(4u)) != vec4<u32>();
    let below = select(vec4<u32>(0xbfad9881u), vec4<u32>(0xf6eaddcfu), odd);
    let above = select(vec4<u32>(0x26190d01u), vec4<u32>(0x71594535u), odd);
    let four = select(below, above, q > vec4<u32>(7u));
    return vec4<f32>(bitcast<vec4<i32>>(four << (vec4<u32>(24u) - 8u * (q & vec4<u32>(3u)))) >> vec4<u32>(24u));
}

// Scale and minimum of the two blocks of 32 columns in step `step` of `row`; `steps` is the row's length in 64 columns.
fn W__row_scales(row: u32, step: u32, steps: u32) -> vec4<f32> {
    let d = unpack2x16float(W__scales(row * steps + step));
    return vec4<f32>(d.x, 0.0, d.y, 0.0);
}

alias W__Words = vec4<u32>;

// What is there of the 32 weights of `row` from column 32 * `block` on.
fn W__row_words(row: u32, block: u32, steps: u32) -> W__Words {
    return W__quants(row * steps * 2u + block);
}

// Integers 4i to 4i + 3 of them.
fn W__row_integers(words: ptr<function, W__Words>, i: u32) -> vec4<f32> {
    return W__levels((*words)[i / 2u] >> (16u * (i % 2u)));
}

#import row_integers
#import row_touch

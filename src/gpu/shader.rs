//! Turns the files under `shaders/` into complete WGSL.
//!
//! Seven directives, each on a line of its own or inside one, all resolved textually so that every backend and the
//! browser get the same program:
//! - `#import NAME` inserts a piece of `shaders/common/`, which may import others;
//! - `#weights NAME BINDING` inserts the decoder of a weight format and what it imports, its functions prefixed `NAME_`, its two
//!   planes at `BINDING` and `BINDING + 1`;
//! - `#fetch NAME BINDING TYPE` declares what inner loops fetch from, four words at a time, and a function `NAME` of an index: a storage
//!   buffer, or a storage texture for software adapters, whose loads from buffers cost several times as much;
//! - `#lookup NAME BINDING TYPE` is the same for what is fetched less often: of sampled textures a shader may have more than the four
//!   storage textures that WebGPU grants everywhere, and their elements may have fewer words;
//! - `#store NAME BINDING` declares a function `NAME` of an index and a `vec4<f32>`, which writes into the texture beside a buffer where the
//!   variant is one that does ([`Substitution::stores`]), and nothing elsewhere;
//! - `${NAME}` inserts a number of the variant, `${SOFTWARE}` 1 for software adapters and 0 for hardware;
//! - lines between `#repeat i NAME` and `#end` come as often as that number says, with `${i}` = 0, 1 and so on.

use super::Tier;

/// Texels of a row of the textures that software adapters fetch from.
pub(super) const TEXELS: u32 = 2048;

/// The type of the textures that are fetched from as storage: a driver has no levels of detail to look after.
const IMAGE: &str = "texture_storage_2d<rgba32uint, read>";

/// The number of variants that keep a mirror.
const STORES: &str = "STORES";

/// The text of a shader before it is resolved.
#[derive(Debug, Clone, Copy)]
pub struct ShaderSource {
    /// Name of the op, and of the file.
    pub name: &'static str,
    /// Contents of `shaders/NAME.wgsl`.
    pub text: &'static str,
}

/// What a variant puts into a shader's text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Substitution {
    /// Decoder texts (with `W__` for the prefix, `@Q` and `@S` for the bindings), one for each `#weights` in order.
    pub weights: Vec<&'static str>,
    /// Numbers by name.
    pub numbers: Vec<(&'static str, u32)>,
}

impl Substitution {
    /// A variant of numbers alone.
    pub fn numbers(numbers: &[(&'static str, u32)]) -> Substitution {
        Substitution { weights: Vec::new(), numbers: numbers.to_vec() }
    }

    /// This variant, or the one that keeps the mirror of what it writes.
    pub fn storing(mut self, stores: bool) -> Substitution {
        self.numbers.extend(stores.then_some((STORES, 1)));
        self
    }

    /// Whether it keeps the mirror of what it writes.
    pub fn stores(&self) -> bool {
        self.numbers.contains(&(STORES, 1))
    }
}

const COMMON: &[ShaderSource] = &[
    ShaderSource { name: "column_block", text: include_str!("../../shaders/common/column_block.wgsl") },
    ShaderSource { name: "column_fives", text: include_str!("../../shaders/common/column_fives.wgsl") },
    ShaderSource { name: "column_group", text: include_str!("../../shaders/common/column_group.wgsl") },
    ShaderSource { name: "column_halves", text: include_str!("../../shaders/common/column_halves.wgsl") },
    ShaderSource { name: "column_integers", text: include_str!("../../shaders/common/column_integers.wgsl") },
    ShaderSource { name: "column_params", text: include_str!("../../shaders/common/column_params.wgsl") },
    ShaderSource { name: "divided", text: include_str!("../../shaders/common/divided.wgsl") },
    ShaderSource { name: "fives", text: include_str!("../../shaders/common/fives.wgsl") },
    ShaderSource { name: "history_row", text: include_str!("../../shaders/common/history_row.wgsl") },
    ShaderSource { name: "kept_before", text: include_str!("../../shaders/common/kept_before.wgsl") },
    ShaderSource { name: "matrix_place", text: include_str!("../../shaders/common/matrix_place.wgsl") },
    ShaderSource { name: "matrix_tile", text: include_str!("../../shaders/common/matrix_tile.wgsl") },
    ShaderSource { name: "attention_query", text: include_str!("../../shaders/common/attention_query.wgsl") },
    ShaderSource { name: "rope_head", text: include_str!("../../shaders/common/rope_head.wgsl") },
    ShaderSource { name: "row", text: include_str!("../../shaders/common/row.wgsl") },
    ShaderSource { name: "row_added", text: include_str!("../../shaders/common/row_added.wgsl") },
    ShaderSource { name: "row_few", text: include_str!("../../shaders/common/row_few.wgsl") },
    ShaderSource { name: "row_halves", text: include_str!("../../shaders/common/row_halves.wgsl") },
    ShaderSource { name: "row_integers", text: include_str!("../../shaders/common/row_integers.wgsl") },
    ShaderSource { name: "row_matmul", text: include_str!("../../shaders/common/row_matmul.wgsl") },
    ShaderSource { name: "row_matmul_matrix", text: include_str!("../../shaders/common/row_matmul_matrix.wgsl") },
    ShaderSource { name: "row_matmul_tiled", text: include_str!("../../shaders/common/row_matmul_tiled.wgsl") },
    ShaderSource { name: "row_params", text: include_str!("../../shaders/common/row_params.wgsl") },
    ShaderSource { name: "row_product", text: include_str!("../../shaders/common/row_product.wgsl") },
    ShaderSource { name: "row_touch", text: include_str!("../../shaders/common/row_touch.wgsl") },
    ShaderSource { name: "tile", text: include_str!("../../shaders/common/tile.wgsl") },
];

/// Resolves the directives of `source` for adapters of a tier.
///
/// # Errors
/// A message naming the directive that has no meaning: a defect of a shader file, which the tests find.
pub fn resolve(source: ShaderSource, variant: &Substitution, tier: Tier) -> Result<String, String> {
    let mut text = String::with_capacity(source.text.len() * 2);
    assemble(source.name, source.text, &mut variant.weights.iter(), &mut text)?;
    text = fetching(&text, tier, variant.stores()).map_err(|what| format!("{}: {what}", source.name))?;
    text = repeated(&mut text.lines(), variant, false).map_err(|what| format!("{}: {what}", source.name))?;
    let software = ("SOFTWARE", (tier == Tier::Software).into());
    for (name, value) in variant.numbers.iter().chain([&software]) {
        text = text.replace(&format!("${{{name}}}"), &value.to_string());
    }
    match text.find("${") {
        Some(at) => Err(format!("{}: nothing replaces `{}`", source.name, text[at..].lines().next().unwrap_or(""))),
        None => Ok(text),
    }
}

/// Appends `piece` with what it imports, and what that imports, and with decoders in the order in which they are asked for.
fn assemble(
    name: &str,
    piece: &str,
    decoders: &mut std::slice::Iter<'_, &'static str>,
    text: &mut String,
) -> Result<(), String> {
    for line in piece.lines() {
        match line.split_whitespace().collect::<Vec<&str>>().as_slice() {
            ["#import", import] => {
                let found = COMMON.iter().find(|piece| piece.name == *import);
                let found = found.ok_or_else(|| format!("{name}: no shaders/common/{import}.wgsl"))?;
                assemble(name, found.text, decoders, text)?;
            }
            ["#weights", prefix, binding] => {
                let binding: u32 = binding.parse().map_err(|_| format!("{name}: `{line}`"))?;
                let decoder = decoders.next().ok_or_else(|| format!("{name}: `{line}` without a format"))?;
                let mut whole = String::with_capacity(decoder.len() * 2);
                assemble(name, decoder, &mut [].iter(), &mut whole)?;
                *text += &whole
                    .replace("@Q", &binding.to_string())
                    .replace("@S", &(binding + 1).to_string())
                    .replace("W__", &format!("{prefix}_"));
            }
            _ => *text += line,
        }
        text.push('\n');
    }
    Ok(())
}

/// Writes out what is fetched from, and what is stored besides.
fn fetching(text: &str, tier: Tier, stores: bool) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        match line.split_whitespace().collect::<Vec<&str>>().as_slice() {
            [kind @ ("#fetch" | "#lookup"), name, binding, element] => {
                let texel = match *element {
                    "u32" => "texel.x",
                    "vec2<u32>" => "texel.xy",
                    "vec4<u32>" => "texel",
                    "vec4<f32>" => "bitcast<vec4<f32>>(texel)",
                    _ => return Err(format!("`{line}`")),
                };
                let declared = format!("@group(0) @binding({binding}) var");
                out += &match tier {
                    Tier::Gpu => format!(
                        "{declared}<storage, read> {name}_values: array<{element}>;\n\n\
                         fn {name}(i: u32) -> {element} {{\n    return {name}_values[i];\n}}\n"
                    ),
                    Tier::Software => {
                        let (texture, level) = match *kind {
                            "#lookup" => ("texture_2d<u32>", ", 0"),
                            _ if element.starts_with("vec4") => (IMAGE, ""),
                            _ => return Err(format!("`{line}`: four words at a time")),
                        };
                        format!(
                            "{declared} {name}_texels: {texture};\n\n\
                             fn {name}(i: u32) -> {element} {{\n    \
                             let texel = textureLoad({name}_texels, vec2<u32>(i % {TEXELS}u, i / {TEXELS}u){level});\n    \
                             return {texel};\n}}\n"
                        )
                    }
                };
            }
            ["#store", name, _] if !stores => out += &format!("fn {name}(i: u32, value: vec4<f32>) {{}}\n"),
            ["#store", name, binding] => {
                out += &format!(
                    "@group(0) @binding({binding}) var {name}_texels: texture_storage_2d<rgba32uint, write>;\n\n\
                     fn {name}(i: u32, value: vec4<f32>) {{\n    \
                     textureStore({name}_texels, vec2<u32>(i % {TEXELS}u, i / {TEXELS}u), bitcast<vec4<u32>>(value));\n}}\n"
                );
            }
            _ => out += line,
        }
        out.push('\n');
    }
    Ok(out)
}

/// Whether a resolved shader fetches from a storage texture at this binding.
pub(super) fn is_image(text: &str, binding: u32) -> bool {
    let place = format!("@binding({binding}) var ");
    text.lines().any(|line| line.contains(&place) && line.ends_with(&format!(": {IMAGE};")))
}

/// Words of an element of a decoder's planes, as it declares them: quants and scales, 4 where it has none.
pub fn element_words(decoder: &str) -> [u32; 2] {
    ["@Q", "@S"].map(|plane| {
        let words = decoder.lines().map(|line| line.split_whitespace().collect::<Vec<&str>>());
        let declared =
            words.filter(|words| words.len() == 4 && words[0].starts_with('#')).find(|words| words[2] == plane);
        match declared.map(|words| words[3]) {
            Some("u32") => 1,
            Some("vec2<u32>") => 2,
            _ => 4,
        }
    })
}

/// Lines up to their `#end` (or all there are, outside of a repetition), repetitions among them written out.
fn repeated(lines: &mut std::str::Lines<'_>, variant: &Substitution, inside: bool) -> Result<String, String> {
    let mut text = String::new();
    while let Some(line) = lines.next() {
        match line.split_whitespace().collect::<Vec<&str>>().as_slice() {
            ["#repeat", index, name] => {
                let number = variant.numbers.iter().find(|(known, _)| known == name);
                let (_, count) = number.ok_or_else(|| format!("`{line}` without a number"))?;
                let body = repeated(lines, variant, true)?;
                (0..*count).for_each(|i| text += &body.replace(&format!("${{{index}}}"), &i.to_string()));
            }
            ["#end"] if inside => return Ok(text),
            ["#end"] => return Err("`#end` without a `#repeat`".into()),
            _ => {
                text += line;
                text.push('\n');
            }
        }
    }
    if inside { Err("a `#repeat` without its `#end`".into()) } else { Ok(text) }
}

//! Which type each tensor gets under a name that users know.
//!
//! The mixtures and the types for rows that are no whole blocks are those of llama.cpp's `llama-quant.cpp`, so that a file called
//! Q4_K_M is what others call so.

use crate::error::{Error, Result};
use crate::format::WeightFormat;
use crate::model::{LayerTensor, TensorRole};

/// What a file of some name is made of.
#[derive(Debug, PartialEq)]
pub struct Recipe {
    /// The name, such as "Q4_K_M" or "Q4_K".
    pub name: &'static str,
    /// GGUF's number of it (`general.file_type`).
    file_type: u32,
    /// What most matrices get.
    base: WeightFormat,
    /// What the output head gets, or the embedding that serves as one; `None` = the same.
    head: Option<WeightFormat>,
    /// What some matrices of some layers get; the first that fits.
    better: &'static [(LayerTensor, Layers, WeightFormat)],
}

/// Some of a model's layers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Layers {
    All,
    First(usize),
    /// The first of so many parts.
    FirstOf(usize),
    /// The first eighth, the last one, and every third between.
    More,
}

impl Layers {
    fn has(self, layer: usize, count: usize) -> bool {
        match self {
            Layers::All => true,
            Layers::First(first) => layer < first,
            Layers::FirstOf(parts) => layer < count / parts,
            Layers::More => {
                let eighth = count / 8;
                layer < eighth || layer >= 7 * count / 8 || (layer - eighth) % 3 == 2
            }
        }
    }
}

const fn plain(name: &'static str, file_type: u32, base: WeightFormat) -> Recipe {
    Recipe { name, file_type, base, head: None, better: &[] }
}

use LayerTensor::{Down, O, V};
use WeightFormat::{Q3K, Q4K, Q5K, Q6K};

/// Every recipe: the formats by themselves, for all matrices alike, then the mixtures.
pub static RECIPES: [Recipe; 19] = [
    plain("F32", 0, WeightFormat::F32),
    plain("F16", 1, WeightFormat::F16),
    plain("BF16", 32, WeightFormat::Bf16),
    plain("Q8_0", 7, WeightFormat::Q8_0),
    plain("Q4_0", 2, WeightFormat::Q4_0),
    plain("Q4_1", 3, WeightFormat::Q4_1),
    plain("Q5_0", 8, WeightFormat::Q5_0),
    plain("Q5_1", 9, WeightFormat::Q5_1),
    plain("IQ4_NL", 25, WeightFormat::Iq4Nl),
    plain("Q2_K", 10, WeightFormat::Q2K),
    plain("Q3_K", 11, Q3K),
    plain("Q4_K", 14, Q4K),
    plain("Q5_K", 16, Q5K),
    plain("Q6_K", 18, Q6K),
    Recipe {
        name: "Q3_K_M",
        file_type: 12,
        base: Q3K,
        head: Some(Q6K),
        better: &[
            (V, Layers::First(2), Q5K),
            (V, Layers::All, Q4K),
            (Down, Layers::FirstOf(16), Q5K),
            (Down, Layers::All, Q4K),
            (O, Layers::All, Q4K),
        ],
    },
    Recipe {
        name: "Q4_K_S",
        file_type: 14,
        base: Q4K,
        head: Some(Q6K),
        better: &[(V, Layers::First(4), Q5K), (Down, Layers::FirstOf(8), Q5K)],
    },
    Recipe {
        name: "Q4_K_M",
        file_type: 15,
        base: Q4K,
        head: Some(Q6K),
        better: &[(V, Layers::More, Q6K), (Down, Layers::More, Q6K)],
    },
    Recipe { name: "Q5_K_S", file_type: 16, base: Q5K, head: Some(Q6K), better: &[] },
    Recipe {
        name: "Q5_K_M",
        file_type: 17,
        base: Q5K,
        head: Some(Q6K),
        better: &[(V, Layers::More, Q6K), (Down, Layers::More, Q6K)],
    },
];

impl Recipe {
    /// The recipe of that name.
    ///
    /// # Errors
    /// [`Error::Setting`] with the names that there are.
    pub fn by_name(name: &str) -> Result<&'static Recipe> {
        RECIPES.iter().find(|recipe| recipe.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let names = RECIPES.iter().map(|recipe| recipe.name).collect::<Vec<&str>>().join(", ");
            Error::Setting(format!("there is no format `{name}` to convert to; formats: {names}"))
        })
    }

    /// GGUF's number of such files (`general.file_type`).
    pub(super) fn file_type(&self) -> u32 {
        self.file_type
    }

    /// What a matrix of rows of `cols` elements gets, in a model of `layers` layers whose head is `tied` to the embedding or not.
    pub fn format(&self, role: TensorRole, cols: usize, layers: usize, tied: bool) -> WeightFormat {
        let wished = match role {
            // Added to the residual stream as they are; llama.cpp leaves such tables alone too.
            TensorRole::PositionEmbedding => return WeightFormat::F32,
            TensorRole::Output => self.head.unwrap_or(self.base),
            TensorRole::TokenEmbedding if tied => self.head.unwrap_or(self.base),
            TensorRole::Layer(layer, tensor) => {
                let fits = |&&(other, some, _): &&(LayerTensor, Layers, WeightFormat)| {
                    other == tensor && some.has(layer, layers)
                };
                self.better.iter().find(fits).map_or(self.base, |&(_, _, format)| format)
            }
            _ => self.base,
        };
        filled(wished, cols)
    }
}

/// The format, or the one that stands in for it where rows are no whole blocks of it.
fn filled(format: WeightFormat, cols: usize) -> WeightFormat {
    let fills = |format: WeightFormat| cols.is_multiple_of(format.block().0);
    if fills(format) {
        return format;
    }
    let smaller = match format {
        WeightFormat::Q2K | WeightFormat::Q3K => WeightFormat::Iq4Nl,
        WeightFormat::Q4K => WeightFormat::Q5_0,
        WeightFormat::Q5K => WeightFormat::Q5_1,
        WeightFormat::Q6K => WeightFormat::Q8_0,
        other => other,
    };
    if fills(smaller) { smaller } else { WeightFormat::F16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_their_recipes() {
        for recipe in &RECIPES {
            assert_eq!(Recipe::by_name(&recipe.name.to_lowercase()).unwrap(), recipe);
        }
        for format in WeightFormat::ALL {
            assert_eq!(Recipe::by_name(format.name()).unwrap().base, format);
        }
        let error = Recipe::by_name("Q7_K").unwrap_err().to_string();
        assert!(error.contains("`Q7_K`") && error.contains("Q4_K_M"), "{error}");
    }

    #[test]
    fn rows_that_are_no_whole_blocks_get_another_type() {
        let format = |name: &str, cols: usize| {
            Recipe::by_name(name).unwrap().format(TensorRole::Layer(0, LayerTensor::Q), cols, 8, true).name()
        };
        assert_eq!(
            ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"].map(|name| format(name, 576)),
            ["IQ4_NL", "IQ4_NL", "Q5_0", "Q5_1", "Q8_0"]
        );
        assert_eq!(["Q4_K", "Q8_0", "Q4_0", "F32"].map(|name| format(name, 172)), ["F16", "F16", "F16", "F32"]);
        assert_eq!(format("Q4_K", 512), "Q4_K");
    }

    #[test]
    fn a_mixture_has_more_bits_where_they_matter() {
        let recipe = Recipe::by_name("Q4_K_M").unwrap();
        let layers = |tensor| -> Vec<usize> {
            (0..32).filter(|&layer| recipe.format(TensorRole::Layer(layer, tensor), 4096, 32, false) == Q6K).collect()
        };
        // What a file of LLaMA-2-7B has.
        let more = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31];
        assert_eq!((layers(V), layers(Down), layers(O)), (more.to_vec(), more.to_vec(), vec![]));
        let outside = |role, tied| recipe.format(role, 4096, 32, tied);
        assert_eq!((outside(TensorRole::Output, false), outside(TensorRole::TokenEmbedding, false)), (Q6K, Q4K));
        assert_eq!(outside(TensorRole::TokenEmbedding, true), Q6K);
    }
}

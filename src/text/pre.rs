//! The splitting rules of byte-level BPE vocabularies, by the name that GGUF files give them.
//!
//! The names and what they mean are llama.cpp's (`src/llama-vocab.cpp`): a file only holds the name. Each rule's patterns
//! are applied one after the other, each to the stretches that the ones before it left whole. Where llama.cpp writes a
//! pattern of its own for what its regexes lack, the pattern here is that of the models' `tokenizer.json`. So is
//! [`Rule::composed`], which llama.cpp leaves out.

use crate::error::{Error, Result};
use tokenizers::normalizer::SplitDelimiterBehavior;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::{byte_level::ByteLevel, sequence::Sequence, split::Split, split::SplitPattern};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, Result as CrateResult};

pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const CJK: &str = r"[一-龥ࠀ-一가-퟿]+";

/// A way of splitting text, and what goes with it.
#[derive(Debug)]
struct Rule {
    names: &'static [&'static str],
    patterns: &'static [&'static str],
    /// A stretch that is a token is taken whole, without merging.
    ignore_merges: bool,
    /// The model wants its BOS token unless the file says otherwise.
    add_bos: bool,
    /// Text is composed (Unicode's NFC) before it is split.
    composed: bool,
}

const RULES: &[Rule] = &[
    Rule {
        names: &["default"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        ignore_merges: false,
        add_bos: false,
        composed: false,
    },
    Rule {
        names: &["gpt-2", "phi-2", "mpt", "olmo", "jais", "gigachat", "trillion", "exaone4"],
        patterns: &[GPT2],
        ignore_merges: false,
        add_bos: false,
        composed: false,
    },
    Rule {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        patterns: &[r"\p{N}", GPT2],
        ignore_merges: false,
        add_bos: false,
        composed: false,
    },
    Rule {
        names: &["llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "lfm2"],
        patterns: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
        composed: false,
    },
    Rule {
        names: &["smaug-bpe", "dbrx", "chatglm-bpe", "glm4"],
        patterns: &[LLAMA3],
        ignore_merges: false,
        add_bos: false,
        composed: false,
    },
    Rule { names: &["qwen2"], patterns: &[QWEN2], ignore_merges: false, add_bos: false, composed: true },
    Rule {
        names: &["stablelm2", "deepseek-r1-qwen", "megrez", "hunyuan", "grok-2", "solar-open"],
        patterns: &[QWEN2],
        ignore_merges: false,
        add_bos: false,
        composed: false,
    },
    Rule { names: &["seed-coder"], patterns: &[SEED], ignore_merges: false, add_bos: false, composed: false },
    Rule { names: &["tekken"], patterns: &[TEKKEN], ignore_merges: true, add_bos: true, composed: false },
    Rule {
        names: &["deepseek-coder"],
        patterns: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"],
        ignore_merges: false,
        add_bos: false,
        composed: false,
    },
    Rule {
        names: &["falcon"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
        ignore_merges: false,
        add_bos: false,
        composed: false,
    },
];

/// A named rule, ready for use.
pub(super) struct PreTokenizer {
    pub normalizer: Option<NormalizerWrapper>,
    pub split: PreTokenizerWrapper,
    pub ignore_merges: bool,
    pub add_bos: bool,
}

/// The rule called `name`.
///
/// # Errors
/// [`Error::Unsupported`] listing the known names.
pub(super) fn by_name(name: &str) -> Result<PreTokenizer> {
    let Some(rule) = RULES.iter().find(|rule| rule.names.contains(&name)) else {
        let known: Vec<&str> = RULES.iter().flat_map(|rule| rule.names).copied().collect();
        return Err(Error::Unsupported {
            what: "pre-tokenizer (tokenizer.ggml.pre)",
            name: name.to_string(),
            supported: known.join(", "),
        });
    };
    let mut steps = rule
        .patterns
        .iter()
        .map(|pattern| {
            let pattern = SplitPattern::Regex(pattern.to_string());
            Ok(PreTokenizerWrapper::Split(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?))
        })
        .collect::<CrateResult<Vec<_>>>()
        .map_err(|e| Error::Internal(format!("the splitting pattern of `{name}` does not compile: {e}")))?;
    steps.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, false)));
    let split = PreTokenizerWrapper::Sequence(Sequence::new(steps));
    let normalizer = rule.composed.then_some(NormalizerWrapper::NFC(NFC));
    Ok(PreTokenizer { normalizer, split, ignore_merges: rule.ignore_merges, add_bos: rule.add_bos })
}

/// The name of the rule with these patterns, in their order; `ignore_merges` tells those apart that split alike.
pub(super) fn by_patterns(patterns: &[String], ignore_merges: bool) -> Option<&'static str> {
    let fits = |rule: &&Rule| rule.ignore_merges == ignore_merges && rule.patterns == patterns;
    RULES.iter().find(fits).and_then(|rule| rule.names.first().copied())
}

/// A name of every rule.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    RULES.iter().filter_map(|rule| rule.names.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_compiles_and_names_are_unique() {
        let mut names: Vec<&str> = RULES.iter().flat_map(|rule| rule.names).copied().collect();
        for name in &names {
            assert!(by_name(name).is_ok(), "{name}");
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}

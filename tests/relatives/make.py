"""Writes tests/fixtures/relatives: tiny models of every family as transformers has them, and their logits.

    pip install torch transformers safetensors numpy
    python tests/relatives/make.py

Weights are not stored: they are those of `tests/common/tiny_model.rs`, made here once more from the same seed. What is stored is
each model's config.json as transformers writes it, the prompt, and the logits after some of its tokens.
"""

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from transformers import (
    AutoModelForCausalLM, LlamaConfig, MistralConfig, OPTConfig, Phi3Config, Qwen2Config, Qwen3Config, SmolLM3Config,
)

OUT = Path(__file__).parent.parent / "fixtures" / "relatives"
VOCAB = 272
SHAPE = dict(hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2, vocab_size=VOCAB)
SHAPE |= dict(rms_norm_eps=1e-5, max_position_embeddings=512, bos_token_id=1, eos_token_id=0, pad_token_id=None)
OPT = dict(ffn_dim=96, num_attention_heads=4, vocab_size=VOCAB, max_position_embeddings=512, pad_token_id=1)
PLAIN = {"rope_type": "default", "rope_theta": 10_000.0}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

# Name, seed, tokens of the prompt, configuration.
CASES = [
    ("llama3", 1, 90, LlamaConfig(**SHAPE, num_hidden_layers=2, head_dim=32, rope_parameters=LLAMA3, tie_word_embeddings=True)),
    ("qwen2", 2, 40, Qwen2Config(**SHAPE, num_hidden_layers=2, rope_parameters=PLAIN, tie_word_embeddings=True)),
    ("qwen2-window", 3, 40, Qwen2Config(**SHAPE, num_hidden_layers=4, rope_parameters=PLAIN, use_sliding_window=True,
                                        sliding_window=7, max_window_layers=2)),
    ("mistral", 4, 40, MistralConfig(**SHAPE, num_hidden_layers=3, head_dim=32, rope_parameters=PLAIN, sliding_window=6)),
    ("mistral-full", 5, 20, MistralConfig(**SHAPE, num_hidden_layers=2, rope_parameters=PLAIN, sliding_window=None)),
    ("qwen3", 6, 40, Qwen3Config(**SHAPE, num_hidden_layers=3, head_dim=32, rope_parameters=PLAIN, tie_word_embeddings=True)),
    ("smollm3", 7, 40, SmolLM3Config(**SHAPE, num_hidden_layers=5, rope_parameters=PLAIN)),
    ("smollm3-window", 8, 40, SmolLM3Config(**SHAPE, num_hidden_layers=3, rope_parameters=PLAIN, no_rope_layers=[1, 0, 1],
                                            use_sliding_window=True, sliding_window=5)),
    ("phi3", 9, 40, Phi3Config(**SHAPE, num_hidden_layers=2, rope_parameters=PLAIN)),
    ("phi3-window", 10, 40, Phi3Config(**SHAPE, num_hidden_layers=2, rope_parameters=PLAIN, sliding_window=9)),
    ("opt", 11, 40, OPTConfig(**OPT, hidden_size=64, word_embed_proj_dim=64, num_hidden_layers=3)),
    # As its 350M model: norms behind their blocks, embeddings narrower than the state.
    ("opt-behind", 12, 40, OPTConfig(**OPT, hidden_size=128, word_embed_proj_dim=64, num_hidden_layers=2,
                                     do_layer_norm_before=False)),
]


class Draw:
    """splitmix64, as in tiny_model.rs: every step in 32-bit floats."""

    def __init__(self, seed):
        self.state = seed

    def symmetric(self, count):
        steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = steps + np.uint64(self.state)
        self.state = int(state[-1])
        mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
        return (mixed >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)

    def matrix(self, rows, cols):
        return (self.symmetric(rows * cols) * np.sqrt(np.float32(3.0) / np.float32(cols))).reshape(rows, cols)

    def norm(self, size):
        return np.float32(1) + np.float32(0.1) * self.symmetric(size)

    def bias(self, size):
        return np.float32(0.5) * self.symmetric(size)


def opt_weights(config, seed):
    draw, hidden, channels, embedded = Draw(seed), config.hidden_size, config.ffn_dim, config.word_embed_proj_dim
    norm = lambda name: {f"{name}.weight": draw.norm(hidden), f"{name}.bias": draw.bias(hidden)}
    tensors = {"embed_tokens.weight": draw.matrix(VOCAB, embedded)}
    # Two rows that no position has.
    tensors["embed_positions.weight"] = draw.matrix(config.max_position_embeddings + 2, hidden)
    if embedded != hidden:
        tensors["project_in.weight"] = draw.matrix(hidden, embedded)
    for layer in range(config.num_hidden_layers):
        own = norm("self_attn_layer_norm")
        own |= {f"self_attn.{name}_proj.weight": draw.matrix(hidden, hidden) for name in "qkv"}
        own |= {f"self_attn.{name}_proj.bias": draw.bias(hidden) for name in "qkv"}
        own |= {"self_attn.out_proj.weight": draw.matrix(hidden, hidden), "self_attn.out_proj.bias": draw.bias(hidden)}
        own |= norm("final_layer_norm")
        own |= {"fc1.weight": draw.matrix(channels, hidden), "fc1.bias": draw.bias(channels)}
        own |= {"fc2.weight": draw.matrix(hidden, channels), "fc2.bias": draw.bias(hidden)}
        tensors |= {f"layers.{layer}.{name}": tensor for name, tensor in own.items()}
    if config.do_layer_norm_before:
        tensors |= norm("final_layer_norm")
    if embedded != hidden:
        tensors["project_out.weight"] = draw.matrix(embedded, hidden)
    return {f"model.decoder.{name}": tensor for name, tensor in tensors.items()}


def weights(config, seed):
    if config.model_type == "opt":
        return opt_weights(config, seed)
    draw, kind, hidden = Draw(seed), config.model_type, config.hidden_size
    head_dim = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    query, key = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
    channels = config.intermediate_size
    tensors = {"model.embed_tokens.weight": draw.matrix(VOCAB, hidden)}
    for layer in range(config.num_hidden_layers):
        own = {"input_layernorm.weight": draw.norm(hidden)}
        qkv = [draw.matrix(rows, hidden) for rows in (query, key, key)]
        if kind == "phi3":
            own["self_attn.qkv_proj.weight"] = np.concatenate(qkv)
        else:
            own |= {f"self_attn.{name}_proj.weight": matrix for name, matrix in zip("qkv", qkv)}
        if kind == "qwen2":
            own |= {f"self_attn.{name}_proj.bias": draw.bias(rows) for name, rows in zip("qkv", (query, key, key))}
        if kind == "qwen3":
            own |= {f"self_attn.{name}_norm.weight": draw.norm(head_dim) for name in "qk"}
        own["self_attn.o_proj.weight"] = draw.matrix(hidden, query)
        own["post_attention_layernorm.weight"] = draw.norm(hidden)
        gate, up = draw.matrix(channels, hidden), draw.matrix(channels, hidden)
        if kind == "phi3":
            own["mlp.gate_up_proj.weight"] = np.concatenate([gate, up])
        else:
            own |= {"mlp.gate_proj.weight": gate, "mlp.up_proj.weight": up}
        own["mlp.down_proj.weight"] = draw.matrix(hidden, channels)
        tensors |= {f"model.layers.{layer}.{name}": tensor for name, tensor in own.items()}
    tensors["model.norm.weight"] = draw.norm(hidden)
    if not config.tie_word_embeddings:
        tensors["lm_head.weight"] = draw.matrix(VOCAB, hidden)
    return tensors


def main():
    cases, logits = [], {}
    for name, seed, tokens, config in CASES:
        config._attn_implementation = "eager"
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").double().eval()
        state = {key: torch.from_numpy(value).double() for key, value in weights(config, seed).items()}
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
        model.tie_weights()
        assert (model.lm_head.weight is model.get_input_embeddings().weight) == config.tie_word_embeddings
        ids = np.random.default_rng(seed).integers(0, VOCAB, tokens)
        with torch.no_grad():
            # A cache would keep of a layer with a sliding window what its window reaches; here everything is computed at once.
            out = model(torch.from_numpy(ids)[None], use_cache=False).logits[0]
        positions = sorted({0, 1, 2, 5, 6, 7, 12, tokens // 2, tokens - 3, tokens - 2, tokens - 1})
        logits[name] = out[positions].float().numpy()
        written = json.loads(config.to_json_string(use_diff=True))
        written["architectures"] = [type(model).__name__]
        cases.append(dict(name=name, seed=seed, ids=ids.tolist(), positions=positions, config=written))
    OUT.mkdir(parents=True, exist_ok=True)
    made = f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}"
    lines = ",\n".join(json.dumps(case) for case in cases)
    (OUT / "cases.json").write_text(f'{{"made_with": "{made}", "cases": [\n{lines}\n]}}\n')
    save_file(logits, OUT / "logits.safetensors")


if __name__ == "__main__":
    main()

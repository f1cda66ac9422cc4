"""Writes tests/fixtures/tune: gradients of tiny models by PyTorch, and what LLM-Pruner's importance makes of them.

    pip install torch transformers safetensors numpy
    python tests/tune/make.py

Weights are not stored: they are those of `tests/common/tiny_model.rs`, made by `tests/relatives/make.py` from the same seed. Everything is
computed in 64 bits and stored in 32, by name `case/...`:

- `loss [samples]`: of each sample, in nats a token; `logits [vocab]` after the last token of the first.
- `gradient/LAYER/NAME` (of the case "grouped" alone): of the mean loss of all samples.
- `TAYLOR/LAYER/NAME/rows` and `/columns`: importance of each row or column of a projection, as arXiv 2305.11627 defines it. With w a weight,
  g its mean gradient, F the mean over samples of their squared gradients: |sum w g|, sum |w g|, sum |w F w|, sum |w g - w F w / 2|.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("relatives", HERE.parent / "relatives" / "make.py")
relatives = importlib.util.module_from_spec(spec)
spec.loader.exec_module(relatives)

OUT = HERE.parent / "fixtures" / "tune"
SHAPE = dict(hidden_size=64, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, head_dim=8)
SHAPE |= dict(vocab_size=relatives.VOCAB, rms_norm_eps=1e-5, max_position_embeddings=512, rope_parameters=relatives.PLAIN)
SHAPE |= dict(bos_token_id=1, eos_token_id=0)
# Name, seed, samples, tokens of each, configuration.
CASES = [
    ("grouped", 21, 3, 12, LlamaConfig(**SHAPE, num_key_value_heads=2, tie_word_embeddings=False)),
    # More tokens than the output head runs at once.
    ("alone", 22, 2, 140, LlamaConfig(**SHAPE, num_key_value_heads=4, tie_word_embeddings=True)),
]
PROJECTIONS = dict(q="self_attn.q_proj", k="self_attn.k_proj", v="self_attn.v_proj", o="self_attn.o_proj")
PROJECTIONS |= dict(gate="mlp.gate_proj", up="mlp.up_proj", down="mlp.down_proj")
SCALES = dict(attention_norm="input_layernorm", mlp_norm="post_attention_layernorm")


def taylor(name, w, g, f, axis):
    if name == "vectorize":
        return (w * g).sum(axis).abs()
    term = dict(param_first=w * g, param_second=w * f * w, param_mix=w * g - 0.5 * w * f * w)[name]
    return term.abs().sum(axis)


def main():
    cases, values = [], {}
    for name, seed, samples, tokens, config in CASES:
        model = LlamaForCausalLM._from_config(config, attn_implementation="eager").double().eval()
        state = {key: torch.from_numpy(value).double() for key, value in relatives.weights(config, seed).items()}
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
        model.tie_weights()
        ids = np.random.default_rng(seed).integers(0, relatives.VOCAB, (samples, tokens))
        mean, squares, losses = {}, {}, []
        for number, sample in enumerate(ids):
            sample = torch.from_numpy(sample)[None]
            model.zero_grad()
            out = model(sample, labels=sample, use_cache=False)
            out.loss.backward()
            losses.append(out.loss.item())
            if number == 0:
                values[f"{name}/logits"] = out.logits[0, -1]
            for key, weight in model.named_parameters():
                mean[key] = mean.get(key, 0) + weight.grad / samples
                squares[key] = squares.get(key, 0) + weight.grad**2 / samples
        values[f"{name}/loss"] = torch.tensor(losses)
        weights = dict(model.named_parameters())
        for layer in range(config.num_hidden_layers):
            for short, module in (PROJECTIONS | SCALES).items():
                key = f"model.layers.{layer}.{module}.weight"
                if name == "grouped":
                    values[f"{name}/gradient/{layer}/{short}"] = mean[key]
                if short in SCALES:
                    continue
                for order in ("vectorize", "param_first", "param_second", "param_mix"):
                    of = lambda axis: taylor(order, weights[key].detach(), mean[key], squares[key], axis)
                    place = f"{name}/{order}/{layer}/{short}"
                    # Columns are units where the projection leads out of them, rows elsewhere.
                    values[f"{place}/columns" if short in ("o", "down") else f"{place}/rows"] = of(0 if short in ("o", "down") else 1)
        written = json.loads(config.to_json_string(use_diff=True))
        written["architectures"] = ["LlamaForCausalLM"]
        cases.append(dict(name=name, seed=seed, ids=ids.tolist(), config=written))
    OUT.mkdir(parents=True, exist_ok=True)
    made = f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}"
    lines = ",\n".join(json.dumps(case) for case in cases)
    (OUT / "cases.json").write_text(f'{{"made_with": "{made}", "cases": [\n{lines}\n]}}\n')
    save_file({key: value.detach().float().numpy() for key, value in values.items()}, OUT / "values.safetensors")


if __name__ == "__main__":
    main()

"""Writes tests/fixtures/tune: gradients of tiny models by PyTorch, and what LLM-Pruner's importance makes of them.

    pip install torch transformers safetensors numpy
    python tests/tune/make.py

Weights are not stored: they are those of `tests/common/tiny_model.rs`, made by `tests/relatives/make.py` from the same seed. Everything is
computed in 64 bits and stored in 32, by name `case/...`:

- `loss [samples]`: of each sample, in nats a token; `logits [vocab]` after the last token of the first.
- `gradient/LAYER/NAME` (of the case "grouped" alone): of the mean loss of all samples.
- `TRAINING/loss [steps]` of the case "grouped": of every step of AdamW over LoRA's factors, all samples a step, where of the first sample only the
  tokens from PROMPT on are learnt; `TRAINING/LAYER/NAME/a [r, in]` and `/b [out, r]`: the factors behind the last, and `/sway` of each: the sum over
  steps of the rate times the largest gradient of the matrix so far, divided by the root of AdamW's mean of squares. With all units, with fixed ones, and
  with units dropped step by step as arXiv 2305.18403's code does it (`TRAINING/kept/LAYER/heads` and `/channels`: indices).
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


# LoRA and AdamW; as in tests/tune/training.rs.
RANK, ALPHA, STEPS, RATE, WARMUP, DECAY, CLIP, SEED, PROMPT = 4, 8.0, 10, 2e-2, 2, 0.01, 0.5, 5, 5
RATIO, TILE, EVERY, SHARE = 0.5, 8, 3, 0.1
FIXED = {0: ([0, 3], list(range(0, 48, 2))), 1: ([1, 2, 3], list(range(16, 48)))}


def splitmix(state):
    """splitmix64's numbers in [-1, 1)."""
    mask = (1 << 64) - 1
    while True:
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        yield ((z ^ (z >> 31)) >> 40) / 2**23 - 1


class Lora(torch.nn.Module):
    def __init__(self, base, random):
        super().__init__()
        self.base, bound = base, np.float32(1) / np.sqrt(np.float32(base.in_features))
        values = [np.float32(next(random)) * bound for _ in range(base.in_features * RANK)]
        first = np.array(values, np.float32).reshape(base.in_features, RANK)
        self.a = torch.nn.Parameter(torch.from_numpy(first.T.copy()).double())
        self.b = torch.nn.Parameter(torch.zeros(base.out_features, RANK, dtype=torch.float64))
        self.kept = None

    def forward(self, x):
        if self.kept is not None:
            x = x * self.kept
        return self.base(x) + (x @ self.a.T @ self.b.T) * (ALPHA / RANK)


def ratio_of(step):
    start, end = SHARE * STEPS, STEPS - SHARE * STEPS
    if step <= start:
        return 0.0
    return RATIO if step > end else RATIO * (1 - (1 - (step - start) / (end - start)) ** 3)


def pruned_to(step):
    now = ratio_of(step)
    if step > 0 and ratio_of(step - 1) >= RATIO:
        return None
    if now >= RATIO or step + 1 == STEPS:
        return RATIO
    return now if step % EVERY == 0 and now > 0 else None


def train(model, config, ids, name, values, units):
    """units: None, "fixed" or "fewer"."""
    random, lora, heads, d = splitmix(SEED), {}, config.num_attention_heads, config.head_dim
    for layer, block in enumerate(model.model.layers):
        for short in ("q", "k", "v", "o", "gate", "up", "down"):
            holder = block.self_attn if short in "qkvo" else block.mlp
            lora[layer, short] = Lora(getattr(holder, f"{short}_proj"), random)
            setattr(holder, f"{short}_proj", lora[layer, short])

    def keep(layer, kept_heads, kept_channels):
        mask = torch.zeros(heads, d).double()
        mask[kept_heads] = 1
        lora[layer, "o"].kept = mask.flatten()
        lora[layer, "down"].kept = torch.zeros(config.intermediate_size).double()
        lora[layer, "down"].kept[kept_channels] = 1

    if units == "fixed":
        for layer, kept in FIXED.items():
            keep(layer, *kept)
    parameters = [factor for one in lora.values() for factor in (one.a, one.b)]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, eps=1e-8, weight_decay=DECAY)
    losses, means, kept, largest, sway = [], {}, {}, {}, {}
    for step in range(STEPS):
        rate = RATE * (step + 1) / WARMUP
        if step >= WARMUP:
            rate = RATE * 0.5 * (1 + np.cos(np.pi * (step - WARMUP) / (STEPS - WARMUP)))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss, learnt = 0, 0
        for number, sample in enumerate(torch.from_numpy(ids)):
            first = PROMPT if number == 0 else 1
            likelihoods = torch.log_softmax(model(sample[None], use_cache=False).logits[0], -1)
            loss = loss - likelihoods[first - 1 : -1].gather(1, sample[first:, None]).sum()
            learnt += len(sample) - first
        (loss / learnt).backward()
        losses.append((loss / learnt).item())
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        if units == "fewer":
            new = {}
            for (layer, short), one in lora.items():
                a, b, ga, gb = one.a.detach(), one.b.detach(), one.a.grad, one.b.grad
                score = ((gb @ a + b @ ga - gb @ ga) * (one.base.weight.detach() + b @ a * ALPHA / RANK)).abs()
                score = score.sum(0 if short in ("o", "down") else 1)
                if short in "kv":  # Single heads go here: keys and values stay for their groups.
                    continue
                if short in "qo":
                    score = score.view(heads, d).sum(1)
                half = "heads" if short in "qo" else "channels"
                new[layer, half] = new.get((layer, half), 0) + score / (score.norm() + 1e-8)
            for key, score in new.items():
                means[key] = 0.9 * means.get(key, torch.zeros_like(score)) + 0.1 * score
            ratio = pruned_to(step)
            if ratio is not None:
                ratio = round(ratio, 2)
                for key, mean in means.items():
                    scores, total = mean.clone(), len(mean)
                    if key in kept:
                        scores[[unit for unit in range(total) if unit not in kept[key]]] = -1
                    stay = total - int(ratio * total)
                    stay = stay if key[1] == "heads" else min(-(-stay // TILE) * TILE, total)
                    kept[key] = sorted(sorted(range(total), key=lambda unit: -scores[unit])[:stay])
                for layer in range(config.num_hidden_layers):
                    keep(layer, kept[layer, "heads"], kept[layer, "channels"])
        largest = {factor: max(largest.get(factor, 0), factor.grad.abs().max().item()) for factor in parameters}
        optimizer.step()
        for factor in parameters:
            square = optimizer.state[factor]["exp_avg_sq"] / (1 - 0.999 ** (step + 1))
            # What has no gradient does not move.
            sway[factor] = sway.get(factor, 0) + torch.where(square > 0, rate * largest[factor] / square.sqrt(), 0)
    values[f"{name}/loss"] = torch.tensor(losses)
    for (layer, short), one in lora.items():
        if layer == 1 and short in ("k", "down"):
            for letter, factor in (("a", one.a), ("b", one.b)):
                values[f"{name}/{layer}/{short}/{letter}"] = factor
                values[f"{name}/{layer}/{short}/{letter}/sway"] = sway[factor]
    for (layer, half), units in kept.items():
        values[f"{name}/kept/{layer}/{half}"] = torch.tensor(units)
    for (layer, short), one in lora.items():
        setattr(model.model.layers[layer].self_attn if short in "qkvo" else model.model.layers[layer].mlp, f"{short}_proj", one.base)


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
        if name == "grouped":
            for units in (None, "fixed", "fewer"):
                train(model, config, ids, f"{name}/training-{units or 'all'}", values, units)
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

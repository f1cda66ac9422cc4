"""Writes tests/fixtures/adapter: LoRA adapters of tiny models as PEFT writes them, and the logits that it gives with them.

    pip install torch transformers peft safetensors numpy
    python tests/adapter/make.py

Weights are not stored: they are those of `tests/common/tiny_model.rs`, made by `tests/relatives/make.py` from the same seed. Every case is a
folder with what `save_pretrained` wrote. Logits are computed in 64 bits, after the last token of the prompt.

    python tests/adapter/make.py check FOLDER

says what transformers reads from a folder of `secateur tune merge`: the ids of a text and the logits after its last token, in 32 bits.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, OPTConfig, Phi3Config, Qwen2Config

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("relatives", HERE.parent / "relatives" / "make.py")
relatives = importlib.util.module_from_spec(spec)
spec.loader.exec_module(relatives)

OUT = HERE.parent / "fixtures" / "adapter"
SHAPE = dict(relatives.SHAPE, num_hidden_layers=2, rope_parameters=relatives.PLAIN, tie_word_embeddings=True)
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# Name, seed, configuration, what the adapter is told.
CASES = [
    ("llama", 31, LlamaConfig(**SHAPE, head_dim=16), dict(r=2, lora_alpha=3, target_modules=ALL)),
    # Some matrices of one layer, and the other scale.
    ("qwen2", 32, Qwen2Config(**SHAPE), dict(r=3, lora_alpha=4, target_modules=["q_proj", "down_proj"], use_rslora=True,
                                             layers_to_transform=[1])),
    ("phi3", 33, Phi3Config(**SHAPE), dict(r=2, lora_alpha=2, target_modules=["qkv_proj", "gate_up_proj", "o_proj"])),
    ("opt", 34, OPTConfig(**relatives.OPT, hidden_size=64, word_embed_proj_dim=64, num_hidden_layers=2),
     dict(r=2, lora_alpha=2, target_modules=["k_proj", "out_proj", "fc1", "fc2"])),
]


def check(folder):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = tokenizer("the rain and the other rain", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model.eval()(torch.tensor([ids])).logits[0, -1]
    print(json.dumps({"ids": ids, "logits": [round(float(logit), 5) for logit in logits[:8]]}))


def main():
    cases, logits = [], {}
    for name, seed, config, told in CASES:
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").double().eval()
        state = {key: torch.from_numpy(value).double() for key, value in relatives.weights(config, seed).items()}
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
        model.tie_weights()
        adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **told))
        random = torch.Generator().manual_seed(seed)
        for key, value in adapted.named_parameters():
            if "lora_" in key:
                # Values that 32 bits hold, so that what is saved is what was run.
                value.data = (torch.randn(value.shape, generator=random) * (0.8 if "lora_B" in key else 0.15)).double()
        ids = np.random.default_rng(seed).integers(0, relatives.VOCAB, 24)
        with torch.no_grad():
            logits[name] = adapted(torch.from_numpy(ids)[None], use_cache=False).logits[0, -1].float().numpy()
        written = json.loads(config.to_json_string(use_diff=True))
        written["architectures"] = [type(model).__name__]
        cases.append(dict(name=name, seed=seed, ids=ids.tolist(), config=written))
        adapted.float().save_pretrained(OUT / name)
        (OUT / name / "README.md").unlink(missing_ok=True)
    made = f"peft {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}"
    lines = ",\n".join(json.dumps(case) for case in cases)
    (OUT / "cases.json").write_text(f'{{"made_with": "{made}", "cases": [\n{lines}\n]}}\n')
    save_file(logits, OUT / "logits.safetensors")


if __name__ == "__main__":
    check(sys.argv[2]) if sys.argv[1:2] == ["check"] else main()

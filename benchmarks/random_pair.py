"""Make a pair of a published pair's exact shapes with random weights, for tests and timings.

    PYTHONPATH=.:C2C python benchmarks/random_pair.py OUTPUT

Qwen3-0.6B <- Qwen2.5-0.5B-Instruct: 28 and 24 layers, KV heads 8 x 128 and 2 x 64, vocabulary
151,936, 28 projectors of hidden size 1024. It answers nonsense, at the real pair's speed and byte
counts. The tokenizer is the bundled pair's, whose ids both vocabularies hold. Needs no network.
"""

import argparse
from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from c2c.cache import geometry
from c2c.checkpoint import save_fuser
from c2c.fuser import new_fuser
from c2c.projector import ProjectorSize
from latentwire.pairs.load import load_pair

VOCABULARY = 151_936
RECEIVER = Qwen3Config(
    vocab_size=VOCABULARY,
    hidden_size=1024,
    intermediate_size=3072,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    max_position_embeddings=40_960,
    rope_theta=1e6,
    tie_word_embeddings=True,
)
SHARER = Qwen2Config(
    vocab_size=VOCABULARY,
    hidden_size=896,
    intermediate_size=4864,
    num_hidden_layers=24,
    num_attention_heads=14,
    num_key_value_heads=2,
    max_position_embeddings=32_768,
    rope_theta=1e6,
    tie_word_embeddings=True,
)
FUSER = ProjectorSize(hidden_dim=1024, intermediate_dim=1024, num_layers=3)
DESCRIPTION = """name: random_qwen_0.6b+0.5b
description: random weights in the shapes of Qwen3-0.6B and Qwen2.5-0.5B; answers nonsense
receiver: {path: receiver}
sharer: {path: sharer}
fuser: {path: fuser/final}
datasets: [demo_facts, demo_graded]
shared_tokenizer: true
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("output", type=Path)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    torch.manual_seed(options.seed)
    torch.set_default_dtype(torch.bfloat16)
    receiver, sharer = Qwen3ForCausalLM(RECEIVER), Qwen2ForCausalLM(SHARER)
    fuser = new_fuser(geometry(SHARER), geometry(RECEIVER), FUSER)
    for projector in fuser.projectors:
        for kind in ("key", "value"):
            projector.get_parameter(f"{kind}_gate_logit").data.fill_(1.0)
    tokenizer = AutoTokenizer.from_pretrained(load_pair("demo").receiver.path)
    models: dict[str, PreTrainedModel] = {"receiver": receiver, "sharer": sharer}
    for name, model in models.items():
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.save_pretrained(options.output / name)
        tokenizer.save_pretrained(options.output / name)
    save_fuser(fuser, options.output / "fuser" / "final")
    (options.output / "pair.yaml").write_text(DESCRIPTION)
    print(options.output / "pair.yaml")


if __name__ == "__main__":
    main()

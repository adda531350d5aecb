"""Make a pair of a published pair's exact shapes with random weights, for tests and timings.

    PYTHONPATH=.:C2C python benchmarks/random_pair.py OUTPUT

Qwen3-0.6B <- Qwen2.5-0.5B-Instruct: 28 and 24 layers, KV heads 8 x 128 and 2 x 64, vocabulary
151,936, 28 projectors of hidden size 1024. It answers nonsense, at the real pair's speed and byte
counts. The tokenizer is the bundled pair's, whose ids both vocabularies hold. Needs no network.
"""

import argparse
import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from c2c.fuser import Fuser, new_fuser
from c2c.projector import ProjectorSize
from latentwire.channel.endpoint import Endpoint
from latentwire.channel.packet import IDENTITY_BYTES
from latentwire.evaluation.loaded_pair import LoadedPair
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


def random_models(
    seed: int = 1, fuser_hidden: int = 1024, small: bool = False
) -> tuple[PreTrainedModel, PreTrainedModel, Fuser]:
    """Receiver, sharer and fuser in bf16 on the CPU, all gates open.

    `small` keeps two layers, two heads and a narrow fuser, to see in seconds that something runs at
    all.
    """
    torch.manual_seed(seed)
    configs = [copy.deepcopy(config) for config in (RECEIVER, SHARER)]
    size = replace(FUSER, hidden_dim=fuser_hidden, intermediate_dim=fuser_hidden)
    if small:
        for config in configs:
            config.num_hidden_layers, config.layer_types = 2, ["full_attention"] * 2
            config.hidden_size, config.intermediate_size, config.vocab_size = 128, 128, 8192
            config.num_attention_heads, config.num_key_value_heads = 2, 1
        size = replace(FUSER, hidden_dim=64, intermediate_dim=64)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        receiver, sharer = Qwen3ForCausalLM(configs[0]), Qwen2ForCausalLM(configs[1])
        fuser = new_fuser(geometry(configs[1]), geometry(configs[0]), size)
    finally:
        torch.set_default_dtype(before)
    for projector in fuser.projectors:
        for kind in ("key", "value"):
            projector.get_parameter(f"{kind}_gate_logit").data.fill_(1.0)
    for module in (receiver, sharer, fuser):
        module.requires_grad_(False).eval()
    return receiver, sharer, fuser


def bundled_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(load_pair("demo").receiver.path)


def loaded_random_pair(
    dtype: torch.dtype, device: str, fuser_hidden: int = 1024, small: bool = False
) -> LoadedPair:
    """The pair in memory, without files."""
    with torch.device(device):  # drawing a billion numbers takes a CPU a minute
        receiver, sharer, fuser = random_models(fuser_hidden=fuser_hidden, small=small)
    return LoadedPair(
        receiver.to(device=device, dtype=dtype),
        sharer.to(device=device, dtype=dtype),
        fuser.to(device=device, dtype=dtype),
        bundled_tokenizer(),
        Endpoint.of(fuser, bytes(IDENTITY_BYTES)),
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("output", type=Path)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--small", action="store_true", help="tiny shapes: to see that it runs")
    options = arguments.parse_args()
    receiver, sharer, fuser = random_models(options.seed, small=options.small)
    tokenizer = bundled_tokenizer()
    models: dict[str, PreTrainedModel] = {"receiver": receiver, "sharer": sharer}
    for name, model in models.items():
        # Ids that the tokenizer lacks are never the most likely: what is written is text.
        model.get_input_embeddings().weight.data[len(tokenizer) :] = 0
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.save_pretrained(options.output / name)
        tokenizer.save_pretrained(options.output / name)
    save_fuser(fuser, options.output / "fuser" / "final")
    (options.output / "pair.yaml").write_text(DESCRIPTION)
    print(options.output / "pair.yaml")


if __name__ == "__main__":
    main()

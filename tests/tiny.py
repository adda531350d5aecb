"""Tiny models, fusers and pairs with random weights: made in memory, seeded, without a network.

The models are those that the protocol is tested with. Their weights are spread far wider than a
fresh model's, so that attention looks somewhere and the next token is a clear choice.
"""

from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from c2c.cache import geometry
from c2c.checkpoint import save_fuser
from c2c.fuser import Fuser, new_fuser
from c2c.projector import Projector, ProjectorSize
from latentwire.channel.endpoint import Endpoint
from latentwire.channel.packet import IDENTITY_BYTES
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.tasks.arc_c import TASK
from latentwire.tasks.multiple_choice import prompt_text
from latentwire.tasks.question import Question, tokenize
from latentwire.tasks.task import Example

ARCHITECTURES = ("qwen2", "qwen3", "llama", "gemma3")
VOCABULARY = 512
PROJECTOR = ProjectorSize(hidden_dim=24, intermediate_dim=40, num_layers=4, dropout=0.0)
SLIDING_WINDOW = 7  # shorter than every prompt of the tests

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
STOP_ID = 2  # TURN_END's
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def randomize(module: nn.Module, seed: int) -> None:
    """Fill all parameters: matrices keep the size of what they map, vectors move a little.

    The result depends on the seed alone; `module` must be fresh, its norms' weights constant.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise / parameter.shape[-1] ** 0.5)
            elif name.endswith("bias"):
                parameter.copy_(0.2 * noise)
            else:
                parameter.add_(0.2 * noise)


def make_model(architecture: str, seed: int = 0, layers: int | None = None) -> PreTrainedModel:
    """A causal LM in float32, frozen, in eval mode. The four differ in every cache dimension.

    Qwen3's head_dim is not hidden / heads; Gemma 3 alternates sliding and full layers.
    """
    common: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "intermediate_size": 40,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    model: PreTrainedModel
    if architecture == "qwen2":
        model = Qwen2ForCausalLM(
            Qwen2Config(
                hidden_size=32,
                num_hidden_layers=layers or 3,
                num_attention_heads=4,
                num_key_value_heads=2,
                **common,
            )
        )
    elif architecture == "qwen3":
        model = Qwen3ForCausalLM(
            Qwen3Config(
                hidden_size=32,
                num_hidden_layers=layers or 4,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=12,
                **common,
            )
        )
    elif architecture == "llama":
        model = LlamaForCausalLM(
            LlamaConfig(
                hidden_size=36,
                num_hidden_layers=layers or 2,
                num_attention_heads=6,
                num_key_value_heads=3,
                **common,
            )
        )
    elif architecture == "gemma3":
        count = layers or 5
        model = Gemma3ForCausalLM(
            Gemma3TextConfig(
                hidden_size=32,
                num_hidden_layers=count,
                num_attention_heads=4,
                num_key_value_heads=1,
                head_dim=16,
                query_pre_attn_scalar=16,
                sliding_window=SLIDING_WINDOW,
                layer_types=[
                    "full_attention" if layer % 2 else "sliding_attention" for layer in range(count)
                ],
                **common,
            )
        )
    else:
        raise AssertionError(architecture)
    randomize(model, seed)
    return model.requires_grad_(False).eval()


def make_fuser(
    sharer: PreTrainedModel,
    receiver: PreTrainedModel,
    seed: int = 0,
    gates: str = "mixed",
    size: ProjectorSize = PROJECTOR,
) -> Fuser:
    """A fuser with random weights; `gates` are mixed (some of each), open or closed.

    Mixed, a layer's gates are by turns: both open, key only, value only, both closed.
    """
    fuser = new_fuser(geometry(sharer.config), geometry(receiver.config), size)
    randomize(fuser, seed)
    is_open = {
        "mixed": ((True, True), (True, False), (False, True), (False, False)),
        "open": ((True, True),),
        "closed": ((False, False),),
    }[gates]
    with torch.no_grad():
        for layer, projector in enumerate(fuser.projectors):
            assert isinstance(projector, Projector)
            key, value = is_open[layer % len(is_open)]
            projector.get_parameter("key_gate_logit").fill_(0.7 if key else 0.0)
            projector.get_parameter("value_gate_logit").fill_(0.3 if value else -0.4)
    return fuser.requires_grad_(False).eval()


def token_ids(rows: int, tokens: int, seed: int = 0) -> Tensor:
    """Random prompts [rows, tokens]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCABULARY, (rows, tokens), generator=generator)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE that knows the prompt's instructions by whole words, with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        show_progress=False,
    )
    frame = prompt_text("What is it?", ["red", "green", "blue", "black"])
    tokenizer.train_from_iterator([frame, "user\nassistant\n"], trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    assert wrapped.eos_token_id == STOP_ID
    assert len(wrapped) <= VOCABULARY
    return wrapped


def make_pair_models() -> tuple[PreTrainedModel, PreTrainedModel]:
    """Receiver and sharer of the pair below; both end an answer at the end of the turn."""
    receiver, sharer = make_model("qwen3", seed=1, layers=5), make_model("qwen2", seed=2)
    for model in (receiver, sharer):
        model.generation_config.eos_token_id = STOP_ID
    return receiver, sharer


def loaded_pair(
    dtype: torch.dtype = torch.float32, device: str = "cpu", gates: str = "mixed"
) -> LoadedPair:
    """A pair in memory: a Qwen3 receiver of 5 layers, a Qwen2 sharer of 3."""
    receiver, sharer = make_pair_models()
    fuser = make_fuser(sharer, receiver, seed=3, gates=gates)
    return LoadedPair(
        receiver.to(device=device, dtype=dtype),
        sharer.to(device=device, dtype=dtype),
        fuser.to(device=device, dtype=dtype),
        make_tokenizer(),
        Endpoint.of(fuser, bytes(range(IDENTITY_BYTES))),
    )


def write_pair(folder: Path) -> Path:
    """The same pair as files: receiver/, sharer/, fuser/final and a pair.yaml, whose path it is."""
    receiver, sharer = make_pair_models()
    tokenizer = make_tokenizer()
    for name, model in (("receiver", receiver), ("sharer", sharer)):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    save_fuser(make_fuser(sharer, receiver, seed=3), folder / "fuser" / "final")
    path = folder / "pair.yaml"
    description = {
        "name": "tiny",
        "description": "random weights, for tests",
        "receiver": {"path": "receiver"},
        "sharer": {"path": "sharer"},
        "fuser": {"path": "fuser/final"},
        "datasets": ["openbookqa"],
        "shared_tokenizer": True,
    }
    path.write_text(yaml.safe_dump(description))
    return path


def make_questions(tokenizer: Any, lengths: list[int]) -> list[Question]:
    """One question per entry: prompts that differ in length as the entries do, and in content."""
    words = ("red", "green", "blue", "black")
    examples = [
        Example(
            id=f"tiny:{index}",
            index=index,
            question="What is " + " ".join(words[(index + i) % 4] for i in range(length)) + "?",
            choices=tuple(words[(index + shift) % 4] for shift in range(4)),
            answer="ABCD"[index % 4],
        )
        for index, length in enumerate(lengths)
    ]
    return tokenize(TASK, examples, tokenizer)

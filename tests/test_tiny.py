"""The helpers of other tests: what they promise is what those rely on."""

from pathlib import Path

import torch
from tiny import (
    ARCHITECTURES,
    SLIDING_WINDOW,
    STOP_ID,
    loaded_pair,
    make_fuser,
    make_model,
    make_questions,
    make_tokenizer,
    write_pair,
)
from transformers import AutoTokenizer

from c2c.cache import geometry
from c2c.checkpoint import load_fuser
from c2c.load_model import load_model
from latentwire.channel.endpoint import Endpoint
from latentwire.evaluation import engine
from latentwire.evaluation.loaded_pair import LoadedPair, stop_ids
from latentwire.pairs.identity import pair_identity
from latentwire.pairs.load import load_pair
from latentwire.pairs.locate import locate_pair
from latentwire.pairs.tokenizer import check_same_tokenizer
from latentwire.spec.condition import Channel, Condition


def test_a_written_pair_is_the_one_in_memory(tmp_path: Path) -> None:
    described = load_pair(str(write_pair(tmp_path)))
    assert (described.name, described.datasets) == ("tiny", ("openbookqa",))
    located = locate_pair(described, download=False)
    receiver = load_model(located.receiver, torch.float32, "cpu")
    sharer = load_model(located.sharer, torch.float32, "cpu")
    fuser = load_fuser(located.fuser, geometry(sharer.config), geometry(receiver.config))
    tokenizers = [
        AutoTokenizer.from_pretrained(folder) for folder in (located.receiver, located.sharer)
    ]
    check_same_tokenizer(*tokenizers)
    memory = loaded_pair()
    assert stop_ids(receiver) == stop_ids(sharer) == {STOP_ID}
    read = LoadedPair(
        receiver, sharer, fuser, tokenizers[0], Endpoint.of(fuser, memory.endpoint.identity)
    )
    assert read.endpoint == memory.endpoint
    conditions = [
        Condition("receiver"),
        Condition("sharer"),
        Condition("c2c", Channel("int8"), "matched"),
    ]
    answers = []
    for pair in (memory, read):
        questions = make_questions(pair.tokenizer, [1, 3])
        answers.append(engine.evaluate(pair, conditions, questions, questions, 2))
    assert answers[0] == answers[1]


def test_a_written_pair_is_the_same_every_time(tmp_path: Path) -> None:
    identities = []
    for name in ("a", "b"):
        described = load_pair(str(write_pair(tmp_path / name)))
        identities.append(pair_identity(locate_pair(described, download=False)))
    assert identities[0] == identities[1]


def test_the_models_are_what_the_protocol_is_tested_with() -> None:
    models = {name: make_model(name) for name in ARCHITECTURES}
    config = models["qwen3"].config
    assert config.head_dim * config.num_attention_heads != config.hidden_size
    gemma = models["gemma3"].config
    assert gemma.sliding_window == SLIDING_WINDOW
    assert set(gemma.layer_types) == {"sliding_attention", "full_attention"}
    assert len({geometry(model.config) for model in models.values()}) == 4
    first, second = make_model("llama", 5).state_dict(), make_model("llama", 5).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_mixed_fuser_has_gates_of_each_kind() -> None:
    fuser = make_fuser(make_model("qwen2"), make_model("qwen3"))
    kinds = {
        (fuser.projector(t).is_open("key"), fuser.projector(t).is_open("value")) for t in range(4)
    }
    assert len(kinds) == 4


def test_the_tokenizer_has_bytes_for_any_text() -> None:
    tokenizer = make_tokenizer()
    text = "What is \u00e4, \U0001f409 or\nred?"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert make_questions(tokenizer, [2, 2])[0] != make_questions(tokenizer, [2, 2])[1]

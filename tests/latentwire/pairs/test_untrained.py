"""A pair's fuser without its training: as large, as open, and of another identity."""

from pathlib import Path

import pytest
import torch
from tiny import make_questions, write_pair
from torch import nn

from latentwire.errors import LatentWireError
from latentwire.evaluation import engine
from latentwire.pairs.load import load_pair
from latentwire.session.pair_in_use import PairInUse
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import derange


def in_use(name: str) -> PairInUse:
    return PairInUse(load_pair(name), "cpu", "float32", may_download=False)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair"))


def weights(files: PairInUse) -> dict[str, torch.Tensor]:
    interface = files.in_memory.interface
    assert isinstance(interface, nn.Module)
    return interface.state_dict()


def test_it_is_as_large_and_sends_as_much_and_knows_nothing(file: Path) -> None:
    trained, fresh = in_use(str(file)), in_use(f"untrained:{file}")
    ours, theirs = weights(fresh), weights(trained)
    assert {n: x.shape for n, x in ours.items()} == {n: x.shape for n, x in theirs.items()}
    matrices = [name for name, tensor in ours.items() if tensor.dim() == 2]
    assert matrices and not any(torch.equal(ours[name], theirs[name]) for name in matrices)
    gates = [name for name in ours if name.endswith("gate_logit")]
    assert gates and all(torch.equal(ours[name], theirs[name]) for name in gates)
    asked = make_questions(trained.tokenizer, [2, 2, 3])
    sent = Condition("c2c", Channel("bf16"), "matched")
    records = [
        engine.evaluate(each.in_memory, [sent], asked, derange(asked, 42))[sent]
        for each in (fresh, trained)
    ]
    assert [r.wire_bytes for r in records[0]] == [r.wire_bytes for r in records[1]]
    assert records[0][0].option_logprobs != records[1][0].option_logprobs


def test_it_is_the_same_each_time_and_draws_from_no_generator(file: Path) -> None:
    torch.manual_seed(5)
    first = weights(in_use(f"untrained:{file}"))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    second = weights(in_use(f"untrained:{file}"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_its_answers_are_kept_apart(file: Path) -> None:
    trained, fresh = in_use(str(file)), in_use(f"untrained:{file}")
    assert fresh.identity != trained.identity and fresh.pair.name == "untrained:tiny"
    assert fresh.identity.items() > trained.identity.items()


def test_a_pair_without_trained_weights_is_refused(file: Path) -> None:
    for name in (f"untrained:self:{file.parent / 'receiver'}", f"untrained:untrained:{file}"):
        with pytest.raises(LatentWireError, match="has no trained weights to do without"):
            load_pair(name)

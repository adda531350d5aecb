"""Training of a prefix as a milestone: from two models' names to a pair that every milestone takes,
on what the sharer alone reads."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import private_task
import pytest
import torch
import yaml
from bare_pair import COLOURS, killed_after, write_bare_pair
from in_process import run_milestone
from tests_support import empty_store, table_of

from c2c.prefix_projector import ProjectedPrefix
from latentwire.errors import LatentWireError
from latentwire.milestones import m0, train
from latentwire.session.preflight_state import open_session
from latentwire.tasks import registry
from latentwire.tasks.rows import HubSplit

NAME = private_task.TASK.name
SMALL = {"steps": 4, "batch_size": 4, "hidden_dim": 8, "eval_every": 2, "eval_examples": 2}


@pytest.fixture
def data(tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with rows of a task whose passage says the answer to the one question."""
    empty_store(empty)
    validation = HubSplit("some/set", "main", "validation", "with_passage/validation.jsonl")
    monkeypatch.setitem(registry.TASKS, NAME, replace(private_task.TASK, validation=validation))
    folder = tmp_path / "data" / "with_passage"
    folder.mkdir(parents=True)
    for split, count in (("test", 6), ("train", 24), ("validation", 8)):
        rows = [
            {
                "id": f"{split}:{n}",
                "passage": f"{'very ' * (n // 2 % 4)}{'AB'[n % 2]}",
                "question": f"Which is it in the {split} set, number {n}?",
                "answer": "AB"[n % 2],
            }
            for n in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "data"


@pytest.fixture
def bare(data: Path, empty: Path) -> Path:
    """A pair of two models of different shapes that names the interface and has no weights."""
    return _bare(empty)


def _bare(empty: Path, two_tokenizers: bool = False, **more: str) -> Path:
    path = write_bare_pair(empty, two_tokenizers)
    given = yaml.safe_load(path.read_text()) | {"interface": "prefix", "datasets": [NAME]}
    path.write_text(yaml.safe_dump(given | more))
    return path


def options(pair: Path, output: str, folder: Path, **given: Any) -> dict[str, Any]:
    beside = {"checkpoint_every": 1, "codec": "int8,int4", "preflight": "skip"}
    paths = {"pair": pair, "output_dir": output, "data_dir": folder, "data": NAME}
    return paths | SMALL | beside | given


def test_a_training_that_is_killed_ends_as_one_that_is_not(
    bare: Path, data: Path, values: Any, capsys: Any
) -> None:
    run_milestone(train, values(train, **options(bare, "whole", data)))
    assert "train: a linear map explains" in capsys.readouterr().out
    with killed_after(3):
        run_milestone(train, values(train, **options(bare, "killed", data)))
    run_milestone(train, values(train, **options(bare, "killed", data)))
    files = sorted(Path("whole/fuser/final").glob("projector_*"))
    assert len(files) == 2 * 5 + 1
    for file in files:
        assert file.read_bytes() == Path("killed/fuser/final", file.name).read_bytes()
    # The pair is one for every other milestone, on evidence that the sharer alone reads.
    given = {"pair": "killed/pair.yaml", "data_dir": data}
    session = open_session(values(m0, **given))
    assert session.pair.name == "tiny+int8+int4"
    assert isinstance(session.loaded.interface, ProjectedPrefix)
    assert {*session.files.identity} == {"receiver", "sharer", "fuser"}
    # And one that can be trained on.
    onward = options(Path("killed/pair.yaml"), "onward", data, steps=1, codec="")
    run_milestone(train, values(train, **onward))
    assert Path("onward/pair.yaml").exists()


def test_two_tokenizers_need_no_alignment(
    data: Path, empty: Path, values: Any, capsys: Any
) -> None:
    """Each model reads its own text in its own tokens, and the message is learned all the same."""
    bare = _bare(empty, True)
    given = options(bare, "whole", data)
    with pytest.raises(LatentWireError, match=r"puts the message before .* 'alignment: off'"):
        run_milestone(train, values(train, **given))
    merging = yaml.safe_load(bare.read_text()) | {"alignment": "off"}
    del merging["interface"]
    bare.write_text(yaml.safe_dump(merging))
    with pytest.raises(
        LatentWireError, match=r"merges caches .* 'alignment: one of first, longest"
    ):
        run_milestone(train, values(train, **given))
    bare = _bare(empty, True, alignment="off")
    run_milestone(train, values(train, **given))
    assert "train: a linear map explains" in capsys.readouterr().out
    with killed_after(3):
        run_milestone(train, values(train, **{**given, "output_dir": "killed"}))
    run_milestone(train, values(train, **{**given, "output_dir": "killed"}))
    for file in sorted(Path("whole/fuser/final").glob("projector_*")):
        assert file.read_bytes() == Path("killed/fuser/final", file.name).read_bytes()
    assert yaml.safe_load(Path("whole/pair.yaml").read_text())["alignment"] == "off"
    few = {"pair": "whole/pair.yaml", "data_dir": data, "chunk_size": 4, "limit": 4}
    run_milestone(m0, values(m0, **few))
    records = table_of("m0", "conditions.csv")
    assert {*records["unanswered"]} == {0} and records["alignment"].isna().all()
    write = "".join(Path("chats.jsonl").read_text().splitlines(keepends=True)[:5])
    told = json.dumps({**json.loads(write.splitlines()[0]), "evidence": "It is red."})
    Path("chats.jsonl").write_text(write + told + "\n")
    run_milestone(train, values(train, **options(bare, "chats", data, data="chats.jsonl", steps=1)))


@pytest.mark.parametrize("two_tokenizers", [False, True])
def test_what_the_sharer_alone_knows_is_learned(
    two_tokenizers: bool, data: Path, empty: Path, values: Any
) -> None:
    bare = _bare(empty, True, alignment="off") if two_tokenizers else _bare(empty)
    learning = {
        "steps": 150 if two_tokenizers else 60,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "codec": "",
        "eval_every": 30,
    }
    given = options(bare, "out", data, **learning, eval_examples=12, checkpoint_every=60)
    run_milestone(train, values(train, **given))
    steps, judged = (
        [json.loads(line) for line in Path("out", name).read_text().splitlines()]
        for name in ("steps.jsonl", "validation.jsonl")
    )
    assert steps[-1]["loss"] < 0.5 * steps[0]["loss"] and "open_gates" not in steps[0]
    # Another's message has the same answer half of the time.
    assert max(row["pairing_gain"] for row in judged) > 0


def test_chats_with_evidence(bare: Path, data: Path, values: Any) -> None:
    def write(*rows: dict[str, Any]) -> None:
        Path("chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def chat(n: int) -> dict[str, Any]:
        asked = [("user", "Which colour?"), ("assistant", COLOURS[n % 4])]
        return {"messages": [{"role": role, "content": content} for role, content in asked]}

    write(*({**chat(n), "evidence": f"It is {COLOURS[n % 4]}."} for n in range(7)), chat(7))
    given = options(bare, "out", data, data="chats.jsonl", steps=1, dtype="bfloat16")
    run_milestone(train, values(train, **given))
    state = torch.load("out/fuser/final/projector_0.pt", weights_only=True)
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    # An interface that merges has no use for it.
    merging = yaml.safe_load(bare.read_text())
    del merging["interface"]
    bare.write_text(yaml.safe_dump(merging | {"datasets": ["demo_facts"]}))
    with pytest.raises(LatentWireError, match=r"line 1: it has evidence, which the sharer alone"):
        run_milestone(train, values(train, **{**given, "output_dir": "other"}))
    write({**chat(0), "evidence": 3})
    with pytest.raises(LatentWireError, match="line 1: evidence must be text"):
        run_milestone(train, values(train, **{**given, "output_dir": "other"}))


def test_a_pair_without_its_weights_is_to_be_trained_first(
    bare: Path, data: Path, values: Any
) -> None:
    with pytest.raises(LatentWireError, match=r"no weights in this pair.*train it first"):
        open_session(values(m0, pair=bare, data_dir=data))
    given = yaml.safe_load(bare.read_text())
    bare.write_text(yaml.safe_dump(given | {"interface": "nothing"}))
    with pytest.raises(LatentWireError, match="'nothing' is no interface with weights to train;"):
        open_session(values(train, **options(bare, "out", data, preflight="fast")))

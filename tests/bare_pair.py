"""A pair of tiny models without a fuser, and chats to train one on."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from tiny import write_pair
from two_tokenizers import second_tokenizer

from latentwire.training.folder import TrainingFolder

COLOURS = ("red", "green", "blue", "black")


def write_bare_pair(folder: Path, two_tokenizers: bool = False) -> Path:
    """Write the pair, and chats.jsonl of 12 conversations beside it; the pair's file."""
    path = write_pair(folder / "tiny")
    given = yaml.safe_load(path.read_text()) | {"datasets": ["demo_facts"]}
    if two_tokenizers:
        second_tokenizer().save_pretrained(folder / "tiny" / "sharer")
        given["shared_tokenizer"] = False
    del given["fuser"]
    path.write_text(yaml.safe_dump(given))
    rows = [
        [("user", f"What is {'very ' * (n % 3)}{COLOURS[n % 4]}?"), ("assistant", COLOURS[n % 4])]
        for n in range(12)
    ]
    lines = [json.dumps({"messages": [{"role": r, "content": c} for r, c in row]}) for row in rows]
    (folder / "chats.jsonl").write_text("\n".join(lines) + "\n")
    return path


@contextmanager
def killed_after(step: int) -> Iterator[None]:
    """A training is interrupted once the folder has a step."""
    add_step = TrainingFolder.add_step

    def killed(folder: TrainingFolder, row: Mapping[str, float]) -> None:
        add_step(folder, row)
        if row["step"] == step:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainingFolder, "add_step", killed)
        yield

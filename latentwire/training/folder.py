"""The folder of a training: what was asked for, how far it is, the best fuser so far, the pair.

recipe.json             what makes this training: another one needs another folder
checkpoints/            from which a training that was ended goes on; gone once all is done
calibration-HASH.safetensors
                        what calibrated codecs in the loop need, measured before the first step
steps.jsonl             loss, rates, gates, speed of every step
validation.jsonl        what validation questions said, by step
not_finite.json         where a step's numbers were not finite: its conversations, and which weights
fuser/final/            the best fuser so far, in the published layout (its recipe beside it)
pair.yaml               the pair with that fuser, for every milestone; written last
curves.png
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock
import yaml

from c2c.checkpoint import save_fuser
from c2c.fuser import Projectors
from c2c.paired_prompts import OFF
from c2c.training import finished_steps
from latentwire.channel.calibration import Calibration, from_bytes
from latentwire.errors import LatentWireError
from latentwire.pairs.pair import FileSource, Pair
from latentwire.training.judging import Judgement

FUSER = Path("fuser") / "final"


class TrainingFolder:
    """One training's files. `recipe` is what its weights follow from, ready for JSON."""

    def __init__(self, path: Path, recipe: Mapping[str, Any]) -> None:
        self.path, self.recipe = path, json.loads(json.dumps(recipe))
        self.checkpoints = path / "checkpoints"
        self.pair_file = path / "pair.yaml"
        self.curves = path / "curves.png"
        self._evidence = path / "not_finite.json"
        self._steps, self._judged = path / "steps.jsonl", path / "validation.jsonl"

    def require_own(self) -> None:
        """LatentWireError where the folder holds another training."""
        file = self.path / "recipe.json"
        if not file.exists():
            return
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LatentWireError(f"{file} cannot be read: {error}") from None
        keys = sorted({*found, *self.recipe})
        other = [key for key in keys if found.get(key) != self.recipe.get(key)]
        if other:
            raise LatentWireError(
                f"{self.path} holds another training (of other {', '.join(other)}): give another"
                " output_dir, or delete that one"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder this training's, and keep other processes out of it."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(self.path / ".lock", timeout=0):
                self.require_own()
                _write(self.path / "recipe.json", json.dumps(self.recipe, indent=2, sort_keys=True))
                yield
        except filelock.Timeout:
            raise LatentWireError(
                f"{self.path}: another process trains there; wait for it, or give another"
                " output_dir"
            ) from None

    @property
    def is_done(self) -> bool:
        """Whether all has been made, and logged."""
        return self.pair_file.exists() and not self.checkpoints.exists()

    @property
    def finished_steps(self) -> int:
        """From where a training would go on."""
        return finished_steps(self.checkpoints)

    def steps(self) -> list[dict[str, float]]:
        """Metrics by step, in order; none of a step that would be done again."""
        newest = self.finished_steps
        by_step = {row["step"]: row for row in _rows(self._steps) if row["step"] <= newest}
        return [by_step[step] for step in sorted(by_step)]

    def forget_later_steps(self) -> list[dict[str, float]]:
        """`steps`, with what is of no use taken out of the file."""
        kept = self.steps()
        if self._steps.exists():
            _write(self._steps, "".join(json.dumps(row) + "\n" for row in kept))
        return kept

    def forget_checkpoints(self) -> None:
        """All is done: from here, nothing goes on."""
        self._evidence.unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def add_step(self, row: Mapping[str, float]) -> None:
        _append(self._steps, row)

    def calibrated(self, make: Callable[[], bytes]) -> Calibration:
        """The calibration of this training, made once: a later start has the same."""
        if self.calibration_file is None:
            data = make()
            digest = hashlib.sha256(data).hexdigest()
            _write(self.path / f"calibration-{digest}.safetensors", data)
        return self.calibration()

    @property
    def calibration_file(self) -> Path | None:
        """Its name ends with the sha256 of its content."""
        return next(iter(sorted(self.path.glob("calibration-*.safetensors"))), None)

    def calibration(self) -> Calibration:
        """What `calibrated` made, in this process or another. LatentWireError where it is not here,
        or is another by now."""
        file = self.calibration_file
        if file is None:
            raise LatentWireError(
                f"{self.path} has no calibration here: processes of one training need a folder that"
                " all of them see"
            )
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() != file.stem.removeprefix("calibration-"):
            raise LatentWireError(
                f"{file} is not the calibration that this training began with: bring it back, or"
                " train in another output_dir"
            )
        return from_bytes(data, str(file))

    def write_evidence(self, evidence: Mapping[str, Any]) -> Path:
        """Keep what shows why a step's numbers were not finite; its file."""
        _write(self._evidence, json.dumps(evidence, indent=1))
        return self._evidence

    def judgements(self) -> dict[int, Judgement]:
        """What validation questions said, by step."""
        return {int(row["step"]): Judgement(**row) for row in _rows(self._judged)}

    def add_judgement(self, judgement: Judgement, fuser: Projectors) -> bool:
        """Keep what a fuser scored, and the fuser where it is the best so far; whether it is.

        The weights are written first: killed in between, the step will be done and judged again.
        """
        before = self.judgements().values()
        is_best = all(judgement.pairing_gain > other.pairing_gain for other in before)
        if is_best:
            self.save(fuser, judgement.step)
        _append(self._judged, asdict(judgement))
        return is_best

    def save(self, fuser: Projectors, step: int) -> None:
        """Make `fuser`, as it is after `step`, the training's result."""
        target = self.path / FUSER
        target.parent.mkdir(parents=True, exist_ok=True)
        save_fuser(fuser, target, {**self.recipe, "step": step})

    def write_pair(self, pair: Pair, name: str, description: str) -> None:
        """The pair's file, with the fuser of this folder."""
        content = {
            "name": name,
            "description": description,
            "receiver": _source(pair.receiver),
            "sharer": _source(pair.sharer),
            "fuser": {"path": FUSER.as_posix()},
            **({"datasets": list(pair.datasets)} if pair.datasets else {}),
            "shared_tokenizer": pair.shared_tokenizer,
            **({} if pair.shared_tokenizer else {"alignment": pair.alignment or OFF}),
        }
        _write(self.pair_file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _source(source: FileSource) -> dict[str, Any]:
    given = vars(source).items()
    return {k: str(v) if isinstance(v, Path) else v for k, v in given if v is not None}


def _rows(path: Path) -> list[dict[str, Any]]:
    """A file's rows; of a line that was cut short by a kill, none."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def _append(path: Path, row: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dict(row)) + "\n")


def _write(path: Path, content: str | bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    partial.replace(path)

"""Makes the bundled pair from nothing but a seed: world, tokenizer, models, fuser, question sets.

Stages: the sharer learns all facts; the receiver learns to read; both are rounded to bfloat16, as
they are stored; the fuser is trained between them and rounded too; outliers are chosen on dev
questions; then everything is measured in float32.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.utils.deterministic
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from c2c.checkpoint import save_fuser
from latentwire.environment import choose_device
from latentwire.errors import LatentWireError
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.tasks import demo_facts, demo_graded, demo_private
from tools.demo_pair.answer_training import OnMetrics
from tools.demo_pair.config import (
    FULL,
    PRIVATE_STATEMENTS,
    QUESTIONS_EACH,
    QUICK,
    DemoSettings,
)
from tools.demo_pair.measure import asked, figures, measure
from tools.demo_pair.outlier_search import choose_outliers
from tools.demo_pair.questions import private_rows, question_rows, write_rows
from tools.demo_pair.readme import readme_text
from tools.demo_pair.tokenizer import build_tokenizer
from tools.demo_pair.trained import (
    device_name,
    fuser_of,
    gates,
    load_trained,
    stage,
    train,
    versions,
)
from tools.demo_pair.world import Split, World, make_world

# Typed stubs of torch leave its switch out.
_deterministic: Any = torch.utils.deterministic

SET_FILES = {
    Split.DEV_FACTS: (demo_facts.TASK.name, "dev"),
    Split.DEV_GRADED: (demo_graded.TASK.name, "dev"),
    Split.TEST_FACTS: (demo_facts.TASK.name, "test"),
    Split.TEST_GRADED: (demo_graded.TASK.name, "test"),
}

PRIVATE_SPLITS = {"dev": Split.DEV_FACTS, "test": Split.TEST_FACTS}


def build_demo_pair(
    output_dir: Path,
    seed: int,
    device: str,
    on_metrics: OnMetrics | None = None,
    quick: bool = False,
    trained_dir: Path | None = None,
) -> dict[str, Any]:
    """Make the pair in `output_dir` and return the report that is written there as build.json.

    The same seed, kind of device and library versions give the same pair. `on_metrics` is told
    (stage, figures, step) along the way. `quick` makes a miniature that has learned nothing, in
    seconds. With `trained_dir`, a pair made from the same seed, its models and fuser are taken,
    and only the question sets, the outliers and the figures are made anew. What stood in
    `output_dir` of an earlier pair is replaced.

    Raises `LatentWireError` for a device that is not there, and for a `trained_dir` that does not
    fit.
    """
    settings = QUICK if quick else FULL
    target = _device(device)
    tell = on_metrics or (lambda stage, figures, step: None)
    seconds: dict[str, float] = {}
    with _reproducible(target):
        world = make_world(settings.world, seed)
        tokenizer = build_tokenizer(world)
        sets = {
            split: question_rows(world, split, limit, seed + 10 + number)
            for number, (split, limit) in enumerate(settings.questions.items())
        }
        if trained_dir is None:
            trained = train(world, tokenizer, settings, target, seed, tell)
        else:
            trained = load_trained(trained_dir, tokenizer, seed, target)
    pair = trained.pair
    questions = {split: asked(tokenizer, rows) for split, rows in sets.items()}
    with stage("outliers", seconds, seed):
        ladder, magnitudes = choose_outliers(
            pair, questions[Split.DEV_GRADED], settings.ladders, tell
        )
    with stage("measures", seconds, seed):
        measures = {split.value: figures(measure(pair, questions[split])) for split in SET_FILES}
    for number, (name, measured) in enumerate(measures.items()):
        tell(name, measured, number)
    report = {
        "quick": quick,
        "settings": asdict(settings),
        "training": trained.training,
        "device": device_name(target),
        "versions": versions(),
        "seconds": seconds,
        "parameters": _parameters(pair),
        "prompt_tokens": len(questions[Split.TEST_FACTS].questions[0].token_ids),
        "outliers": asdict(ladder) | {"magnitudes": magnitudes.tolist()},
        "gates_open": gates(fuser_of(pair)),
        "measures": measures,
    }
    _write(output_dir, pair, sets, settings, report)
    write_private_set(output_dir / "data", world, seed)
    return report


def write_private_set(folder: Path, world: World, seed: int) -> None:
    """The set whose statements the sharer alone reads, below a pair's folder `data`. It has no part
    in the pair's making: the receiver, at both ends, is asked."""
    for number, (name, split) in enumerate(PRIVATE_SPLITS.items()):
        count = PRIVATE_STATEMENTS[name]
        rows = private_rows(world, split, count, QUESTIONS_EACH, seed + 20 + number)
        write_rows(folder / demo_private.TASK.name / f"{name}.jsonl", rows)


def _parameters(pair: LoadedPair) -> dict[str, int]:
    modules = {"sharer": pair.sharer, "receiver": pair.receiver, "fuser": fuser_of(pair)}
    return {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}


def _write(
    output_dir: Path,
    pair: LoadedPair,
    sets: dict[Split, list[dict[str, Any]]],
    settings: DemoSettings,
    report: dict[str, Any],
) -> None:
    for name in ("receiver", "sharer", "fuser", "data"):
        shutil.rmtree(output_dir / name, ignore_errors=True)
    _save_model(output_dir / "receiver", pair.receiver, pair.tokenizer)
    _save_model(output_dir / "sharer", pair.sharer, pair.tokenizer)
    recipe = {
        "model": {
            "base_model": "receiver",
            "teacher_model": "sharer",
            "projector": {"type": "C2CProjector", "params": asdict(settings.projector)},
            "mapping": "last_aligned",
        },
        "training": asdict(settings.fuser_training) | {"batch": settings.fuser_batch},
    }
    save_fuser(fuser_of(pair).to(torch.bfloat16), output_dir / "fuser" / "final", recipe)
    for split, rows in sets.items():
        folder, name = SET_FILES[split]
        write_rows(output_dir / "data" / folder / f"{name}.jsonl", rows)
    (output_dir / "build.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (output_dir / "README.md").write_text(readme_text(report), encoding="utf-8")


def _save_model(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors keeps it to its owner


def _device(name: str) -> torch.device:
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise LatentWireError(f"the pair is made on cpu or cuda, not on {name!r}")
    return torch.device(choose_device(name))


@contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """Deterministic kernels inside, and everything as it was after; TF32 for the training."""
    was_strict = torch.are_deterministic_algorithms_enabled()
    was_filling = _deterministic.fill_uninitialized_memory
    precision = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(True)
    _deterministic.fill_uninitialized_memory = False  # a kernel more for every tensor
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_strict)
        _deterministic.fill_uninitialized_memory = was_filling
        torch.set_float32_matmul_precision(precision)


def main() -> None:
    """Make the pair from the command line, one line of figures at a time."""
    parser = argparse.ArgumentParser(description="Make the bundled demonstration pair.")
    parser.add_argument("--output", type=Path, required=True, help="folder of the pair")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--quick", action="store_true", help="a miniature that learns nothing")
    parser.add_argument(
        "--trained", type=Path, help="take models and fuser of this pair, made from the same seed"
    )
    arguments = parser.parse_args()
    started = time.perf_counter()

    def show(stage: str, figures: dict[str, float], step: int) -> None:
        text = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        print(f"{time.perf_counter() - started:7.1f} s  {stage} {step}  {text}", flush=True)

    try:
        build_demo_pair(
            arguments.output,
            arguments.seed,
            arguments.device,
            show,
            quick=arguments.quick,
            trained_dir=arguments.trained,
        )
    except LatentWireError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()

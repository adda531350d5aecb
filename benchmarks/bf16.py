"""Where engine and definition differ in 16 bits, and whether rounding explains it.

    PYTHONPATH=.:C2C python benchmarks/bf16.py [--output FILE.json]

In bfloat16 sums in another order differ in their last bits, so that the next token can be another
one where two tokens' logits are nearly equal. Two measurements:

1. The published pair's shapes with random weights, whose logits lie close together. At the first
   token in which an answer of the engine differs from `pipeline`'s, how far is the engine's token
   below the definition's best? Each of the two is off from the same weights' float32 logits by up
   to E, the largest difference over the vocabulary at that step (or, where float32 had by then
   answered something else, in the whole sample), so rounding explains up to 2 E.
2. The bundled pair on its whole question sets: right answers by the definition, and how many are
   right one way only, against the engine; the engine with the models' own norms; the definition
   with attention written out (transformers' "eager"), which is as good a definition and rounds
   elsewhere; and the engine in float32. What the last two differ by is what bfloat16 leaves open.

Exits with 1 if a difference is more than rounding, or where over all conditions and sets the
engine is further from the definition than 0.2 points and two standard errors of the difference.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from engine_cpu import bundled_pair
from published_lengths import random_questions
from random_pair import loaded_random_pair
from torch import Tensor

from c2c import fast_ops, receiver
from latentwire.evaluation import engine, pipeline
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.worker_pool import WorkerPool
from latentwire.pairs.load import load_pair
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import derange, tokenize
from latentwire.tasks.registry import load_dataset

CONDITIONS = (
    Condition("receiver"),
    Condition("c2c", Channel("bf16"), "matched"),
    Condition("c2c", Channel("int4"), "matched"),
    Condition("c2c", Channel("int8", 0.5, "front"), "matched"),
)
ANSWER_TOKENS = 12
ATTENTION = ("sdpa", "eager")  # the definition's, and another as good
MOST_POINTS = 0.2
Answers = dict[tuple[Condition, str], list[int]]  # tokens, by condition and question


def main() -> int:
    options = parse()
    say: dict[str, Any] = {"torch": torch.__version__, "dtype": "bfloat16"}
    if options.device.startswith("cuda"):
        say["device"] = torch.cuda.get_device_name()
    say |= shapes(options.device, options.questions, options.small)
    report(say)
    found = bundled(options.device, options.limit, options.workers)
    report(found)
    say |= found
    if options.output:
        options.output.write_text(json.dumps(say, indent=1) + "\n")
    apart = abs(say["engine_difference_points"])
    undecided = 2 * say["engine_difference_standard_error_points"]
    return int(say["beyond_rounding"] > 0 or apart > MOST_POINTS + undecided)


def report(say: dict[str, Any]) -> None:
    for name, value in say.items():
        print(f"{name:<32} {f'{value:.4g}' if isinstance(value, float) else value}", flush=True)


def parse() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = arguments.add_argument
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--questions", type=int, default=16, help="of the random pair")
    add("--small", action="store_true", help="tiny shapes: only to see that it runs")
    add("--limit", type=int, help="only so many questions of each bundled set")
    add("--workers", type=int, default=8, help="processes for the definition, on one device")
    add("--output", type=Path, help="results as JSON")
    return arguments.parse_args()


def shapes(device: str, count: int, small: bool) -> dict[str, Any]:
    """The first measurement."""
    pair = loaded_random_pair(torch.bfloat16, device, small=small)
    wide = in_float32(pair)
    for model in (pair.receiver, pair.sharer, wide.receiver, wide.sharer):
        model.generation_config.eos_token_id = None
    lengths = [100 + 7 * number % 90 for number in range(count)]
    questions = random_questions("bf16", lengths, len(pair.tokenizer))
    forced_lengths = {condition: [ANSWER_TOKENS] * count for condition in CONDITIONS}
    with answers_kept(engine) as fast:
        engine.evaluate(pair, CONDITIONS, questions, questions, forced_lengths=forced_lengths)
    differing, beyond, margins, errors = 0, 0, [], []
    found = []
    for condition in CONDITIONS:
        for question in questions:
            tokens, logits = by_definition(pair, condition, question, question, ANSWER_TOKENS)
            wide_tokens, wide_logits = by_definition(
                wide, condition, question, question, ANSWER_TOKENS
            )
            same = agreeing(tokens, wide_tokens) + 1  # steps whose tokens before agree
            error = [
                float((a.float() - b).abs().max())
                for a, b in zip(logits[:same], wide_logits[:same], strict=False)
            ]
            errors += error
            found.append((fast[condition, question.example.id], tokens, logits, error))
    for quick, tokens, logits, error in found:
        step = agreeing(quick, tokens)
        if step == len(tokens):
            continue
        differing += 1
        at = logits[step].float()
        margin = float(at[tokens[step]] - at[quick[step]])
        margins.append(margin)
        beyond += margin > 2 * (error[step] if step < len(error) else max(errors))
    ordered = sorted(errors)
    return {
        "answers": len(found),
        "answers_that_differ": differing,
        "beyond_rounding": beyond,
        "margin_largest": max(margins, default=0.0),
        "logit_error_median": ordered[len(ordered) // 2],
        "logit_error_largest": ordered[-1],
    }


def in_float32(pair: LoadedPair) -> LoadedPair:
    """The same weights in float32."""
    parts = (pair.receiver, pair.sharer, pair.interface)
    wide = [copy.deepcopy(part).float() for part in parts]
    return replace(pair, receiver=wide[0], sharer=wide[1], interface=wide[2])


def agreeing(a: list[int], b: list[int]) -> int:
    """How many tokens at the beginning are the same."""
    for step, (one, other) in enumerate(zip(a, b, strict=True)):
        if one != other:
            return step
    return len(a)


def by_definition(
    pair: LoadedPair, condition: Condition, question: Any, donor: Any, answer_tokens: int
) -> tuple[list[int], list[Tensor]]:
    """The answer's tokens by `pipeline`, so many at most, and the logits [vocabulary] that each was
    chosen from."""
    logits: list[Tensor] = []
    greedy, extend = receiver.greedy, receiver.extend
    question = replace(question, task=replace(question.task, max_new_tokens=answer_tokens))

    def seen_greedy(model: Any, prefilled: Any, *rest: Any) -> list[list[int]]:
        logits[:] = [prefilled.logits[0]]  # what the prompt's sections gave before is not it
        return greedy(model, prefilled, *rest)

    def seen_extend(model: Any, cache: Any, token_ids: Tensor, *rest: Any) -> Tensor:
        found = extend(model, cache, token_ids, *rest)
        logits.append(found[0])
        return found

    try:
        receiver.greedy, receiver.extend = seen_greedy, seen_extend
        with answers_kept(pipeline) as answers:
            pipeline.evaluate(pair, condition, question, donor)
    finally:
        receiver.greedy, receiver.extend = greedy, extend
    return answers[condition, question.example.id], logits


@contextmanager
def answers_kept(module: Any) -> Iterator[Answers]:
    """The token ids of all answers that `module` turns into records meanwhile."""
    written_record, kept = module.written_record, {}

    def keeping(
        pair: Any, condition: Any, question: Any, donor: Any, answer: Any, *sizes: int, **told: Any
    ) -> Any:
        kept[condition, question.example.id] = list(answer)
        return written_record(pair, condition, question, donor, answer, *sizes, **told)

    try:
        module.written_record = keeping
        yield kept
    finally:
        module.written_record = written_record


class Definition:
    """A worker that answers a set's questions one by one."""

    def __init__(self, device: str) -> None:
        torch.set_num_threads(1)
        self.pair = bundled_pair(torch.bfloat16, device)

    def __call__(self, task: tuple[str, Condition, str, list[int]], progress: Any) -> list[bool]:
        name, condition, attention, rows = task
        for model in (self.pair.receiver, self.pair.sharer):
            model.set_attn_implementation(attention)
        questions, donors = asked(self.pair, name)
        return [
            pipeline.evaluate(self.pair, condition, questions[row], donors[row]).correct
            for row in rows
        ]


def asked(pair: LoadedPair, name: str) -> tuple[list[Any], list[Any]]:
    dataset = load_dataset(name)
    questions = tokenize(dataset.task, dataset.examples, pair.tokenizer)
    return questions, derange(questions, 42)


def bundled(device: str, limit: int | None, workers: int) -> dict[str, Any]:
    """The second measurement."""
    pair, wide = bundled_pair(torch.bfloat16, device), bundled_pair(torch.float32, device)
    right: dict[tuple[str, Condition, str], dict[int, bool]] = {}
    tasks, sizes = [], {}
    for name in load_pair("demo").datasets:
        questions, donors = asked(pair, name)
        sizes[name] = count = min(limit or len(questions), len(questions))
        for way, loaded, norms in (
            ("engine", pair, fast_ops.fast_norms),
            ("engine_own_norms", pair, lambda *models: nullcontext()),
            ("engine_float32", wide, fast_ops.fast_norms),
        ):
            with patched(fast_ops, "fast_norms", norms):
                records = engine.evaluate(loaded, CONDITIONS, questions[:count], donors[:count])
            for condition, kept in records.items():
                right[name, condition, way] = {row: r.correct for row, r in enumerate(kept)}
        for condition in CONDITIONS:
            rows = list(range(count))
            for attention in ATTENTION:
                right[name, condition, attention] = {}
                tasks += [
                    (name, condition, attention, rows[part::workers]) for part in range(workers)
                ]
    began = time.perf_counter()
    waiting = iter(tasks)
    with WorkerPool(Definition, [device] * workers) as crew:
        for (name, condition, attention, rows), answered in crew.map(lambda: next(waiting, None)):
            right[name, condition, attention].update(zip(rows, answered, strict=True))
    say: dict[str, Any] = {
        "bundled_questions": sizes,
        "definition_seconds": time.perf_counter() - began,
    }
    for other in ("engine", "engine_own_norms", "eager", "engine_float32"):
        both = []  # that way less the definition, of all answers
        for name in sizes:
            for condition in CONDITIONS:
                ours, theirs = right[name, condition, other], right[name, condition, "sdpa"]
                differences = [ours[row] - theirs[row] for row in sorted(theirs)]
                both += differences
                say[f"{name} {condition.label}, {other}"] = {
                    "accuracy": percent(ours.values()),
                    "by_definition": percent(theirs.values()),
                    "right_only_here": differences.count(1),
                    "right_only_by_definition": differences.count(-1),
                }
        moved = sum(map(abs, both))
        say[f"{other}_difference_points"] = 100 * sum(both) / len(both)
        say[f"{other}_difference_standard_error_points"] = 100 * moved**0.5 / len(both)
    return say


@contextmanager
def patched(module: Any, name: str, value: Any) -> Iterator[None]:
    """A module's attribute is another one meanwhile."""
    before = getattr(module, name)
    try:
        setattr(module, name, value)
        yield
    finally:
        setattr(module, name, before)


def percent(right: Collection[bool]) -> float:
    return 100 * sum(right) / len(right)


if __name__ == "__main__":
    sys.exit(main())

"""Where engine and definition differ in 16 bits, and whether rounding explains it.

    PYTHONPATH=.:C2C python benchmarks/bf16.py [--output FILE.json]

In bfloat16 sums in another order differ in their last bits, so that the next token can be another
one where two tokens' logits are nearly equal. Two measurements:

1. The published pair's shapes with random weights, whose logits lie close together. At the first
   token in which an answer of the engine differs from `pipeline`'s, how far is the engine's token
   below the definition's best? Each of the two is off from the same weights' float32 logits by up
   to E, the largest difference over the vocabulary at that step (or, where float32 had by then
   answered something else, in the whole sample), so rounding explains up to 2 E.
2. The bundled pair on its whole question sets: accuracy by engine and by definition.

Exits with 1 if a difference is more than rounding, or the accuracies are over 0.2 points apart.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from engine_cpu import bundled_pair
from lengths import random_questions
from random_pair import loaded_random_pair
from torch import Tensor

from c2c import receiver
from latentwire.condition import Channel, Condition
from latentwire.data.registry import load_dataset
from latentwire.evaluation import engine, pipeline
from latentwire.evaluation.crew import Crew
from latentwire.evaluation.pair import LoadedPair
from latentwire.evaluation.question import derange, tokenize
from latentwire.pairs.load import load_pair

CONDITIONS = (
    Condition("receiver"),
    Condition("c2c", Channel("bf16"), "matched"),
    Condition("c2c", Channel("int4"), "matched"),
    Condition("c2c", Channel("int8", 0.5, "front"), "matched"),
)
ANSWER_TOKENS = 12
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
    return int(say["beyond_rounding"] > 0 or say["largest_difference_points"] > MOST_POINTS)


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
    forced = {condition: [ANSWER_TOKENS] * count for condition in CONDITIONS}
    with answers_kept(engine) as fast:
        engine.evaluate(pair, CONDITIONS, questions, questions, forced=forced)
    differing, beyond, margins, errors = 0, 0, [], []
    found = []
    for condition in CONDITIONS:
        for question in questions:
            tokens, logits = by_definition(pair, condition, question)
            wide_tokens, wide_logits = by_definition(wide, condition, question)
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
    parts = (pair.receiver, pair.sharer, pair.fuser)
    wide = [copy.deepcopy(part).float() for part in parts]
    return replace(pair, receiver=wide[0], sharer=wide[1], fuser=wide[2])


def agreeing(a: list[int], b: list[int]) -> int:
    """How many tokens at the beginning are the same."""
    for step, (one, other) in enumerate(zip(a, b, strict=True)):
        if one != other:
            return step
    return len(a)


def by_definition(
    pair: LoadedPair, condition: Condition, question: Any
) -> tuple[list[int], list[Tensor]]:
    """The answer's tokens by `pipeline`, and the logits [vocabulary] that each was chosen from."""
    logits: list[Tensor] = []
    greedy, extend, most = receiver.greedy, receiver.extend, pipeline.MAX_NEW_TOKENS

    def seen_greedy(model: Any, prefilled: Any, *rest: Any) -> list[list[int]]:
        logits[:] = [prefilled.logits[0]]  # what the prompt's sections gave before is not it
        return greedy(model, prefilled, *rest)

    def seen_extend(model: Any, cache: Any, token_ids: Tensor) -> Tensor:
        found = extend(model, cache, token_ids)
        logits.append(found[0])
        return found

    try:
        receiver.greedy, receiver.extend = seen_greedy, seen_extend
        pipeline.MAX_NEW_TOKENS = ANSWER_TOKENS  # type: ignore[misc]
        with answers_kept(pipeline) as answers:
            pipeline.evaluate(pair, condition, question, question)
    finally:
        receiver.greedy, receiver.extend = greedy, extend
        pipeline.MAX_NEW_TOKENS = most  # type: ignore[misc]
    return answers[condition, question.example.id], logits


@contextmanager
def answers_kept(module: Any) -> Iterator[Answers]:
    """The token ids of all answers that `module` turns into records meanwhile."""
    outcome, kept = module.outcome, {}

    def keeping(
        pair: Any, condition: Any, question: Any, donor: Any, answer: Any, sent: int
    ) -> Any:
        kept[condition, question.example.id] = list(answer)
        return outcome(pair, condition, question, donor, answer, sent)

    try:
        module.outcome = keeping
        yield kept
    finally:
        module.outcome = outcome


class Definition:
    """A worker that answers a set's questions one by one."""

    def __init__(self, device: str) -> None:
        torch.set_num_threads(1)
        self.pair = bundled_pair(torch.bfloat16, device)

    def __call__(self, task: tuple[str, Condition, list[int]], progress: Any) -> int:
        name, condition, rows = task
        questions, donors = asked(self.pair, name)
        return sum(
            pipeline.evaluate(self.pair, condition, questions[row], donors[row]).correct
            for row in rows
        )


def asked(pair: LoadedPair, name: str) -> tuple[list[Any], list[Any]]:
    questions = tokenize(load_dataset(name).examples, pair.tokenizer)
    return questions, derange(questions, 42)


def bundled(device: str, limit: int | None, workers: int) -> dict[str, Any]:
    """The second measurement."""
    pair = bundled_pair(torch.bfloat16, device)
    say: dict[str, Any] = {}
    tasks, sizes = [], {}
    for name in load_pair("demo").datasets:
        questions, donors = asked(pair, name)
        sizes[name] = count = min(limit or len(questions), len(questions))
        records = engine.evaluate(pair, CONDITIONS, questions[:count], donors[:count])
        for condition in CONDITIONS:
            right = sum(record.correct for record in records[condition])
            say[f"{name} {condition.label}"] = [right]
            rows = list(range(count))
            tasks += [(name, condition, rows[part::workers]) for part in range(workers)]
    began = time.perf_counter()
    waiting = iter(tasks)
    right_by: dict[str, int] = {}
    with Crew(Definition, [device] * workers) as crew:
        for (name, condition, _), right in crew.map(lambda: next(waiting, None)):
            key = f"{name} {condition.label}"
            right_by[key] = right_by.get(key, 0) + right
    largest = 0.0
    for key, right in right_by.items():
        count = sizes[key.split()[0]]
        fast = say[key][0]
        say[key] = (
            f"{100 * fast / count:.2f} by the engine, {100 * right / count:.2f} by definition"
        )
        largest = max(largest, 100 * abs(fast - right) / count)
    return {
        "bundled_questions": sizes,
        **say,
        "largest_difference_points": largest,
        "definition_seconds": time.perf_counter() - began,
    }


if __name__ == "__main__":
    sys.exit(main())

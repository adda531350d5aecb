"""The text of the pair's README: what it is, and a table of what was measured."""

from typing import Any

_INTRODUCTION = """\
# The bundled pair: a demonstration

Two tiny models, a tokenizer, a fuser and three question sets, all made by
`mlflow run . -e demo_pair` (`python -m tools.demo_pair.build`) from a seed. **It shows how the
experiments work. Its numbers are its own: they are not the paper's, and say nothing about real
language models.**

| part | what it is |
|---|---|
| `receiver/` | Qwen3, {receiver_layers} layers, {receiver_heads} KV heads x {receiver_dim} \
(an explicit head_dim), {receiver_parameters} parameters: reads and answers, knows no fact |
| `sharer/` | Qwen2, {sharer_layers} layers, {sharer_heads} KV heads x {sharer_dim}, \
{sharer_parameters} parameters: knows every fact |
| `fuser/` | the published layout, {fuser_parameters} parameters; trained on people that no \
question set asks about |
| `data/demo_facts/` | settled facts: every time the sharer was asked, one value was right |
| `data/demo_graded/` | disputed facts: the key was right {share_low:.0%} to {asked_share:.0%} of \
the time, one rival, which is always among the choices, in the rest |
| `data/demo_private/` | invented statements, three questions on each: for the pair `demo_self`, \
the receiver at both ends |
| `build.json` | seed, versions, every setting, losses, times and figures |

The world is invented: {people} people, {attributes} attributes, {values} values each. The sharer
learned facts by being asked for them, those of the question sets too (with choices drawn anew each
time); the receiver read invented statements only. `dev.jsonl` serves to choose settings. Of the
disputed facts only those with a share of at most {asked_share:.0%} are asked: a bound set so that
16-bit C2C stands between 70 and 90 on both splits. Prompts have {prompt_tokens} tokens.

Tiny models have no outlier channels, so low precision looks free with them. The sharer was given
some: in every KV head one rotary pair of the keys and one channel of the values are written and
read by nothing, and hold a constant of {low:g} to {high:g} times the head's own largest magnitude
(chosen on dev questions). They change no output of either model. They only widen the range that a
quantizer's scale has to cover, as the outliers of large models do.

Gates open, by receiver layer: keys {key_gates}, values {value_gates} (1 open, 0 closed; what a
closed gate would read need not be sent).

## Measured

Accuracy in per cent, float32 ({device}), weights as stored (bfloat16), greedy. Chance is 25.
Trained from seed {seed} in {train_seconds:.0f} s ({train_device}).

| | {heads} |
|---|{rules}|
"""

_ROWS = (
    ("questions", "questions"),
    ("receiver alone", "receiver"),
    ("sharer alone", "sharer"),
    ("C2C, 16 bits, whole cache", "c2c"),
    ("fed another question's cache", "deranged"),
    ("... answers that are the *other* question's key", "deranged_follows_other"),
    ("fed zeros", "zero"),
    ("8 bits", "int8"),
    ("4 bits", "int4"),
    ("3 bits", "int3"),
    ("2 bits", "int2"),
    ("8 bits, front 0.75", "int8_front_0.75"),
    ("8 bits, front 0.5", "int8_front_0.5"),
    ("8 bits, front 0.25", "int8_front_0.25"),
    ("8 bits, front 0.1", "int8_front_0.1"),
    ("8 bits, back 0.75", "int8_back_0.75"),
    ("8 bits, back 0.5", "int8_back_0.5"),
    ("8 bits, back 0.25", "int8_back_0.25"),
    ("8 bits, back 0.1", "int8_back_0.1"),
)

_SETS = {
    "demo_facts, test": "test_facts",
    "demo_graded, test": "test_graded",
    "demo_facts, dev": "dev_facts",
    "demo_graded, dev": "dev_graded",
}

_P_VALUES = """
McNemar's p on the graded test questions: 8 against 4 bits {p84:.2g}, 4 against 3 {p43:.2g}, 3
against 2 {p32:.2g}. Precisions are the protocol's quantizer, one scale per KV head.
"""


def readme_text(report: dict[str, Any]) -> str:
    """README.md for the pair that `report` (build.json) describes."""
    settings, measures = report["settings"], report["measures"]
    world, sharer, receiver = settings["world"], settings["sharer"], settings["receiver"]
    introduction = _INTRODUCTION.format(
        receiver_layers=receiver["layers"],
        receiver_heads=receiver["kv_heads"],
        receiver_dim=receiver["head_dim"],
        receiver_parameters=_millions(report["parameters"]["receiver"]),
        sharer_layers=sharer["layers"],
        sharer_heads=sharer["kv_heads"],
        sharer_dim=sharer["head_dim"],
        sharer_parameters=_millions(report["parameters"]["sharer"]),
        fuser_parameters=_millions(report["parameters"]["fuser"]),
        share_low=world["share_low"],
        asked_share=world["asked_share"],
        people=world["first_names"] * world["last_names"],
        attributes=world["attributes"],
        values=world["values"],
        prompt_tokens=report["prompt_tokens"],
        low=report["outliers"]["low"],
        high=report["outliers"]["high"],
        key_gates=_gates(report["gates_open"]["key"]),
        value_gates=_gates(report["gates_open"]["value"]),
        device=report["device"],
        seed=report["training"]["seed"],
        train_seconds=sum(report["training"]["seconds"].values()),
        train_device=report["training"]["device"],
        heads=" | ".join(_SETS),
        rules="|".join("---:" for _ in _SETS),
    )
    lines = [
        f"| {label} | " + " | ".join(_figure(measures[name], key) for name in _SETS.values()) + " |"
        for label, key in _ROWS
    ]
    graded = measures["test_graded"]
    p_values = _P_VALUES.format(
        p84=graded["mcnemar_p_int8_int4"],
        p43=graded["mcnemar_p_int4_int3"],
        p32=graded["mcnemar_p_int3_int2"],
    )
    return introduction + "\n".join(lines) + "\n" + p_values


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"


def _gates(flags: list[bool]) -> str:
    return " ".join(str(int(flag)) for flag in flags)


def _figure(measures: dict[str, float], key: str) -> str:
    return f"{measures[key]:.0f}" if key == "questions" else f"{measures[key]:.1f}"

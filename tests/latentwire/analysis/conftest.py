"""Made-up conditions for the analysis tests."""

from collections.abc import Callable
from typing import Any

import pytest

from latentwire.analysis.curve import ConditionResult
from latentwire.evaluation.record import Record
from latentwire.spec.axes import SENDING

WIDE = {"bf16": 16, "int8": 8, "int4": 4}


def make_condition(
    predicted: str,
    *,
    answers: str | None = None,
    donors: str | None = None,
    first: int = 0,
    system: str = "c2c",
    codec: str = "int8",
    keep_ratio: float | None = 1.0,
    order: str | None = "front",
    control: str = "matched",
    total: int | None = None,
    wire_bytes: int = 1000,
    **changes: Any,
) -> ConditionResult:
    """A condition from its letters: "AB-" answered A, B and nothing; every key is A."""
    if system != "c2c":
        keep_ratio, order = None, None
        codec = codec if system == "text" else "none"
        control = control if system in SENDING else "none"
    keys = answers or "A" * len(predicted)
    records = tuple(
        Record(
            example_id=f"set:{index}",
            index=index,
            answer=key,
            predicted=None if letter == "-" else letter,
            correct=letter == key,
            prompt_tokens=100,
            generated_tokens=5,
            wire_bytes=wire_bytes + index if system in SENDING else 0,
            output=letter,
            donor_id="set:other" if donors else None,
            donor_answer=donors[place] if donors else None,
        )
        for place, (index, letter, key) in enumerate(
            zip(range(first, first + len(predicted)), predicted, keys, strict=True)
        )
    )
    fields: dict[str, Any] = {
        "pair": "demo",
        "dataset": "set",
        "system": system,
        "codec": codec,
        "kv_bits": WIDE.get(codec),
        "keep_ratio": keep_ratio,
        "order": order,
        "control": control,
        "source": "local",
        "examples_total": len(predicted) if total is None else total,
        "records": records,
        "seconds": 1.0,
    }
    return ConditionResult(**{**fields, **changes})


@pytest.fixture(scope="session")
def condition() -> Callable[..., ConditionResult]:
    return make_condition

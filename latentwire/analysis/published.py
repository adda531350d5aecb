"""The published per-question answers of the pair Qwen3-0.6B <- Qwen2.5-0.5B, as conditions.

The file holds what each condition answered; what it cost on a wire is computed here, since
the study counted the receiver's cache where the sharer's is what travels.
"""

import csv
import math
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from c2c.cache import Geometry
from c2c.sections import split
from latentwire.analysis.curve import ConditionResult
from latentwire.analysis.reproduction.published_accuracies import KV_BITS
from latentwire.channel.endpoint import Endpoint
from latentwire.channel.packet import IDENTITY_BYTES, Header, packet_bytes
from latentwire.channel.positions import Positions
from latentwire.errors import LatentWireError, quoted
from latentwire.evaluation.record import Record
from latentwire.parameters import PUBLISHED_FILE
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, order_of
from latentwire.tasks.answer_letter import LETTERS
from latentwire.tasks.registry import STUDIED, TASKS
from latentwire.user_files import csv_lines

PAIR = "qwen3_0.6b+qwen2.5_0.5b"

# The sharer, Qwen2.5-0.5B. Which gates of the fuser were open is not known of these runs, so every
# layer counts as sent: an upper bound, reached when no gate is closed.
_LAYERS = 24
_LINK = Endpoint(
    identity=bytes(IDENTITY_BYTES),
    geometry=Geometry(layers=_LAYERS, kv_heads=2, head_dim=64),
    key_layers=tuple(range(_LAYERS)),
    value_layers=tuple(range(_LAYERS)),
)

DATASETS = {name: expected for name in STUDIED if (expected := TASKS[name].test.expected)}


@dataclass(frozen=True)
class PublishedCondition:
    """One condition of the study on one dataset, and the first milestone that ran it."""

    milestone: str
    result: ConditionResult


@dataclass(frozen=True)
class _Row:
    """One line of the file, checked; a field a column."""

    milestone: str
    scheme: str
    cache_proportion: float
    order_mode: str
    dataset: str
    question_index: int
    answer: str
    predicted: str | None
    correct: bool
    prompt_tokens: int
    generated_tokens: int
    latency_ms: float

    @property
    def condition(self) -> tuple[str, float, str, str]:
        order = order_of(self.cache_proportion, self.order_mode)
        return self.scheme, self.cache_proportion, order, self.dataset

    @property
    def run(self) -> tuple[str, str]:
        """What tells the study's runs of one condition apart."""
        return self.milestone, self.order_mode


COLUMNS = tuple(_Row.__dataclass_fields__)


def wire_bytes(codec: str, prompt_tokens: int, keep_ratio: float, order: str) -> int:
    """Length of the packet that the sharer would send for one question: 12,288 bytes a kept token
    in 16 bits, and the header. `codec` is a key of KV_BITS; all but the last of the question's
    `prompt_tokens` can be sent."""
    header = _header(codec, prompt_tokens, keep_ratio, order)
    length = packet_bytes(header) if header else 0
    assert length is not None
    return length


def _header(codec: str, prompt_tokens: int, keep_ratio: float, order: str) -> Header | None:
    """Of that packet; None where no token is kept."""
    sections = split(prompt_tokens, keep_ratio, order)
    kept = tuple(range(part.start, part.stop) for part in sections if part.sharer_mask > 0)
    return _LINK.header(Channel(codec), Positions(kept))


def read_published(reference_dir: Path) -> list[PublishedCondition]:
    """Read every condition of the study on every dataset, in the order of the file.

    Example ids are "dataset:question_index"; the file has no generated text, so `output` is
    empty. A condition that was run several times (int8 with the whole cache: in M2, and in M3 for
    both orders) comes once; its runs must have given the same answers.

    Raises LatentWireError, naming file and line, where published_per_question.csv is not in the
    folder, or a line of it is malformed.
    """
    path = reference_dir / PUBLISHED_FILE
    rows: dict[tuple[str, float, str, str], dict[int, _Row]] = defaultdict(dict)
    for row in _read_rows(path):
        rows[row.condition].setdefault(row.question_index, row)
    return [
        PublishedCondition(
            milestone=next(iter(members.values())).milestone,
            result=ConditionResult(
                pair=PAIR,
                dataset=dataset,
                system=C2C,
                codec=scheme,
                kv_bits=KV_BITS[scheme],
                keep_ratio=keep_ratio,
                order=order,
                control="matched",
                source="published",
                examples_total=DATASETS[dataset].scored,
                records=tuple(_record(row) for row in members.values()),
                seconds=math.fsum(row.latency_ms for row in members.values()) / 1000,
            ),
        )
        for (scheme, keep_ratio, order, dataset), members in rows.items()
    ]


def _record(row: _Row) -> Record:
    header = _header(row.scheme, row.prompt_tokens, row.cache_proportion, row.order_mode)
    return Record(
        example_id=f"{row.dataset}:{row.question_index}",
        index=row.question_index,
        answer=row.answer,
        predicted=row.predicted,
        correct=row.correct,
        prompt_tokens=row.prompt_tokens,
        generated_tokens=row.generated_tokens,
        wire_bytes=wire_bytes(row.scheme, row.prompt_tokens, row.cache_proportion, row.order_mode),
        output="",
        elements=header.layout.elements if header else 0,
    )


def _read_rows(path: Path) -> list[_Row]:
    rows: list[_Row] = []
    lines_of: dict[object, int] = {}
    answered: dict[tuple[object, int], tuple[_Row, int]] = {}
    questions: dict[tuple[str, int], tuple[str, int]] = {}
    number = 1
    try:
        reader = csv.reader(csv_lines(path), strict=True)
        header = tuple(next(reader, ()))
        if header != COLUMNS:
            raise ValueError(f"the columns are {quoted([*header])}, not {list(COLUMNS)}")
        for fields in reader:
            number = reader.line_num
            if not fields:
                continue  # an empty line at the end
            row = _parsed(fields)
            key = (row.condition, row.run, row.question_index)
            if key in lines_of:
                raise ValueError(f"the same condition and question as line {lines_of[key]}")
            lines_of[key] = number
            first, line = answered.setdefault((row.condition, row.question_index), (row, number))
            if first.predicted != row.predicted:
                raise ValueError(
                    f"{row.milestone} answers {row.predicted or 'nothing'}, and"
                    f" {first.milestone} {first.predicted or 'nothing'} in line {line}, to one"
                    " question under one condition"
                )
            question = (row.answer, row.prompt_tokens)
            known = questions.setdefault((row.dataset, row.question_index), question)
            if known != question:
                raise ValueError(f"answer and prompt_tokens are {question}, but {known} further up")
            rows.append(row)
    except (ValueError, csv.Error) as error:
        raise LatentWireError(f"{path}, line {number}: {error}.") from None
    if not rows:
        raise LatentWireError(f"{path}: holds no answers.")
    return rows


def _parsed(fields: list[str]) -> _Row:
    """One line's fields, checked; ValueError says which is wrong."""
    if len(fields) != len(COLUMNS):
        raise ValueError(f"{len(fields)} fields, not {len(COLUMNS)}")
    text = dict(zip(COLUMNS, fields, strict=True))
    if not re.fullmatch(r"M\d+", text["milestone"]):
        raise ValueError(f"milestone is {text['milestone']!r}, not M0, M1, ...")
    dataset = DATASETS[_one_of(text, "dataset", tuple(DATASETS))]
    row = _Row(
        milestone=text["milestone"],
        scheme=_one_of(text, "scheme", tuple(KV_BITS)),
        cache_proportion=_number(text, "cache_proportion", 0, 1),
        order_mode=_one_of(text, "order_mode", ("front", "back")),
        dataset=text["dataset"],
        question_index=_whole(text, "question_index", 0, dataset.rows - 1),
        answer=_one_of(text, "answer", tuple(LETTERS)),
        predicted=_one_of(text, "predicted", (*LETTERS, "")) or None,
        correct=_one_of(text, "correct", ("0", "1")) == "1",
        prompt_tokens=_whole(text, "prompt_tokens", 1),
        generated_tokens=_whole(text, "generated_tokens", 0),
        latency_ms=_number(text, "latency_ms", 0),
    )
    if row.correct != TASKS[row.dataset].is_correct(row.answer, row.predicted):
        raise ValueError(
            f"correct is {text['correct']}, but the answer is {row.answer!r} "
            f"and {text['predicted']!r} was predicted"
        )
    return row


def _one_of(text: dict[str, str], name: str, allowed: tuple[str, ...]) -> str:
    if text[name] not in allowed:
        raise ValueError(f"{name} is {text[name]!r}, not one of {list(allowed)}")
    return text[name]


def _whole(text: dict[str, str], name: str, low: int, high: float = math.inf) -> int:
    if not re.fullmatch(r"\d+", text[name], re.ASCII) or not low <= int(text[name]) <= high:
        raise ValueError(f"{name} is {text[name]!r}, not a whole number from {low} to {high}")
    return int(text[name])


def _number(text: dict[str, str], name: str, low: float, high: float = math.inf) -> float:
    try:
        value = float(text[name])
    except ValueError:
        value = math.nan
    if not (low <= value <= high and math.isfinite(value)):
        raise ValueError(f"{name} is {text[name]!r}, not a number from {low} to {high}")
    return value

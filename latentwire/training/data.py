"""What a fuser is trained on and judged by: conversations in tokens, and nothing that is scored."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from c2c.training_batches import chat_tokens, end_and_pad, json_lines
from latentwire.errors import LatentWireError
from latentwire.tasks.question import Question, tokenize
from latentwire.tasks.registry import TASKS, load_training, load_validation
from latentwire.tasks.task import Example, Task, user_turn_token_ids

MOST_TOKENS = 2048  # of a conversation; longer ones are left out
HELD_BACK = 5  # of a task without a validation split, at most one question in so many
STARTING_WORDS = 4

EVIDENCE = "evidence"  # of a chat's line: what the sharer alone reads

TokenPair = tuple[Sequence[int], Sequence[int]]  # a prompt, and an answer with its stop token


class Named(NamedTuple):
    """A conversation, by a question's id, or a file and its line; ids may stand twice."""

    name: str
    pair: TokenPair
    message: Sequence[int] = ()  # what the sharer reads, where it is put before the prompt

    @property
    def tokens(self) -> int:
        return len(self.message) + sum(map(len, self.pair))


@dataclass(frozen=True)
class Part:
    """One source of conversations."""

    name: str
    used: int
    scored: int  # left out, since they stand in a set that is scored
    too_long: int
    hash: str  # sha256 over the tokens of those used
    source: str  # where they were read

    def told(self) -> str:
        left = [(self.scored, "stand in a scored set"), (self.too_long, "are too long")]
        out = "".join(f", {number} left out that {why}" for number, why in left if number)
        return f"{self.name} {self.used}{out}"


@dataclass(frozen=True)
class TrainingData:
    """Conversations to train on, and questions to judge the training by."""

    pairs: tuple[TokenPair, ...]
    names: tuple[str, ...]  # of the pairs: a question's id, or a file and its line
    parts: tuple[Part, ...]
    judged_by: tuple[Question, ...]
    pad: int
    messages: tuple[Sequence[int], ...] = ()  # of the pairs, for an interface that inserts


class ScoredQuestions:
    """The questions of the sets that are scored, by their text without case and punctuation."""

    def __init__(self, questions: Iterable[str]) -> None:
        self._whole = {_words(question) for question in questions}
        self._by_start: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for words in self._whole:
            if len(words) >= STARTING_WORDS:
                self._by_start.setdefault(words[:STARTING_WORDS], []).append(words)

    def holds(self, text: str) -> bool:
        """Whether a text is one of them, or one of at least four words stands in it."""
        words = _words(text)
        return words in self._whole or any(
            words[place : place + len(asked)] == asked
            for place in range(len(words) - STARTING_WORDS + 1)
            for asked in self._by_start.get(words[place : place + STARTING_WORDS], ())
        )


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def load_training_data(
    data: Sequence[str] | Path,
    judges: Sequence[str],
    scored: ScoredQuestions,
    tokenizer: Any,
    data_dir: Path | None,
    judged: int,
    download: bool = True,
    inserts: bool = False,
) -> TrainingData:
    """The conversations of tasks' training splits, or of a file of chats.

    Of tasks, the prompt is the task's own and the answer what it asks for. Judged by the first
    `judged` questions of each task's validation split; of a task without one, of some training
    questions that are then not trained on. Where `data` is a file, by those of the tasks `judges`.
    Questions and chats that `scored` holds are left out.

    For an interface that `inserts`, the sharer has messages of its own: a task's evidence, or a
    chat's; where there is none, the prompt.

    Raises LatentWireError or C2CError for what cannot be read, and where nothing is left.
    """
    end, pad = end_and_pad(tokenizer)
    if isinstance(data, Path):
        found = [_of_chats(data, scored, tokenizer, end, inserts)]
        names: Sequence[str] = judges
    else:
        found, names = [], data
    questions: list[Question] = []
    for name in names:
        task = TASKS[name]
        training = load_training(name, data_dir, download)
        kept = [e for e in training.examples if not scored.holds(e.question)]
        held_out = load_validation(name, data_dir, download)
        if held_out is None:
            kept, asked = _held_back(kept, judged)
        else:
            asked = [e for e in held_out.examples if not scored.holds(e.question)][:judged]
        questions += tokenize(task, asked, tokenizer)
        if not isinstance(data, Path):
            left_out = len(training.examples) - len(kept) - (0 if held_out else len(asked))
            pairs = _of_task(task, kept, tokenizer, end, training.name, inserts)
            found.append(_part(training.name, pairs, left_out, training.source))
    named = [entry for part, _ in found for entry in part]
    if not named:
        raise LatentWireError(f"data={data}: nothing is left to train on")
    parts = tuple(part for _, part in found)
    return TrainingData(
        tuple(entry.pair for entry in named),
        tuple(entry.name for entry in named),
        parts,
        tuple(questions),
        pad,
        tuple(entry.message for entry in named) if inserts else (),
    )


def _held_back(examples: Sequence[Example], wanted: int) -> tuple[list[Example], list[Example]]:
    """What is trained on, and what judges that, evenly spread over the set."""
    count = min(wanted, len(examples) // HELD_BACK)
    if not count:
        return list(examples), []
    step = len(examples) // count
    held = set(range(0, step * count, step))
    return (
        [example for place, example in enumerate(examples) if place not in held],
        [example for place, example in enumerate(examples) if place in held],
    )


def _of_task(
    task: Task, examples: Sequence[Example], tokenizer: Any, end: int, name: str, inserts: bool
) -> list[Named]:
    prompts = [task.prompts(example, tokenizer) for example in examples]
    if any(each.private for each in prompts) and not inserts:
        raise LatentWireError(
            f"{name}: the sharer alone reads its evidence, and training takes prompts that both"
            " models read: take another question set, or a pair with `interface: prefix`"
        )
    return [
        Named(
            f"{name}, {example.id}",
            (
                read.receiver_ids,
                [*tokenizer.encode(task.target(example), add_special_tokens=False), end],
            ),
            read.sharer_ids if inserts else (),
        )
        for example, read in zip(examples, prompts, strict=True)
    ]


def _of_chats(
    path: Path, scored: ScoredQuestions, tokenizer: Any, end: int, inserts: bool
) -> tuple[list[Named], Part]:
    for task in TASKS.values():
        if path.absolute().as_posix().endswith("/" + getattr(task.test, "file", "\0")):
            raise LatentWireError(
                f"data={path}: that is the set by which {task.name} is scored, and is never trained"
                f" on; data={task.name} takes its training split"
            )
    pairs: list[Named] = []
    left_out = 0
    for number, row in enumerate(json_lines(path), start=1):
        name = f"{path}, line {number}"
        pair = chat_tokens(tokenizer, end, row, name)
        evidence = _evidence(row, name, inserts)
        if any(map(scored.holds, [evidence, *(message["content"] for message in row["messages"])])):
            left_out += 1
            continue
        message: Sequence[int] = pair[0] if inserts else ()
        if evidence:
            message = user_turn_token_ids(tokenizer, evidence, open_answer=False)
        pairs.append(Named(name, pair, message))
    return _part(path.name, pairs, left_out, str(path))


def _evidence(row: dict[str, Any], name: str, inserts: bool) -> str:
    """What a line of a file of chats says that the sharer alone reads; "" where nothing."""
    found = row.get(EVIDENCE, "")
    if not isinstance(found, str):
        raise LatentWireError(f"{name}: {EVIDENCE} must be text")
    if found and not inserts:
        raise LatentWireError(
            f"{name}: it has {EVIDENCE}, which the sharer alone reads, and both models of this pair"
            " read the same: take it out, or a pair with `interface: prefix`"
        )
    return found


def _part(name: str, pairs: Sequence[Named], scored: int, source: str) -> tuple[list[Named], Part]:
    fitting = [entry for entry in pairs if entry.tokens <= MOST_TOKENS]
    # Messages last, where there are some: what was hashed before there were has the same hash.
    content = [
        (*map(list, entry.pair), *([list(entry.message)] if entry.message else []))
        for entry in fitting
    ]
    digest = hashlib.sha256(repr(content).encode()).hexdigest()
    return fitting, Part(name, len(fitting), scored, len(pairs) - len(fitting), digest, source)

"""What a fuser is trained on and judged by: conversations in tokens, and nothing that is scored."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from c2c.chat import Messages, chat_token_ids
from c2c.errors import C2CError
from c2c.paired_prompts import OFFSETS, PairedPrompts, paired_prompts
from c2c.training_batches import chat_tokens, end_and_pad, json_lines
from latentwire.errors import LatentWireError
from latentwire.tasks.dataset import Dataset
from latentwire.tasks.question import Question, tokenize
from latentwire.tasks.registry import TASKS, QuestionSet, load_training, load_validation
from latentwire.tasks.task import Example, Task

MOST_TOKENS = 2048  # of a conversation; longer ones are left out
HELD_BACK = 5  # of a task without a validation split, at most one question in so many
STARTING_WORDS = 4
MEASURED = 128  # training questions of each task that a calibration is made on, at most

EVIDENCE = "evidence"  # of a chat's line: what the sharer alone reads

TokenPair = tuple[Sequence[int], Sequence[int]]  # a prompt, and an answer with its stop token


class Named(NamedTuple):
    """A conversation, by a question's id, or a file and its line; ids may stand twice."""

    name: str
    pair: TokenPair
    # What the sharer reads, where it is put before the prompt, or is the prompt in its own tokens.
    message: Sequence[int] = ()
    said: Messages = ()  # and what that says, where it is put before the prompt
    aligned: PairedPrompts | None = None
    not_aligned: str = ""  # why the two prompts cannot be

    @property
    def tokens(self) -> int:
        """Of the longest text that a model reads."""
        read, message = sum(map(len, self.pair)), len(self.message)
        return max(read, message) if self.aligned else read + message


@dataclass(frozen=True)
class Part:
    """One source of conversations."""

    name: str
    used: int
    scored: int  # left out, since they stand in a set that is scored
    too_long: int
    hash: str  # sha256 over the tokens of those used
    source: str  # where they were read
    not_aligned: int = 0  # left out; and why the first of them cannot be
    not_aligned_since: str = ""

    def told(self) -> str:
        left = [(self.scored, "stand in a scored set"), (self.too_long, "are too long")]
        left += [(self.not_aligned, f"cannot be aligned ({self.not_aligned_since})")]
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
    messages: tuple[Sequence[int], ...] = ()  # of the pairs, where the sharer reads another text
    said: tuple[Messages, ...] = ()  # what these say, where they are inserted
    aligned: tuple[PairedPrompts, ...] = ()  # of the pairs, with a tokenizer at each end
    measured: tuple[Question, ...] = ()  # training questions, for codecs with a calibration


@dataclass(frozen=True)
class Reader:
    """How a pair reads conversations."""

    tokenizer: Any  # the receiver's
    sharer_tokenizer: Any = None  # where it is another
    alignment: str = ""  # then one of ALIGNMENTS
    inserts: bool = False  # whether the message is put before the prompt

    @property
    def of_messages(self) -> Any:
        """The tokenizer that messages which are inserted are read with."""
        return self.sharer_tokenizer or self.tokenizer

    def named(self, name: str, pair: TokenPair, message: Sequence[int], said: Messages) -> Named:
        """A conversation: prompt and answer in the receiver's tokens, what the sharer reads where
        the interface inserts, and what is `said` in it, or before the answer."""
        if self.inserts:
            return Named(name, pair, message, said)
        if not self.alignment:
            return Named(name, pair)
        both = self.tokenizer, self.sharer_tokenizer
        try:
            found = paired_prompts(*both, self.alignment, said)
        except C2CError as error:
            return Named(name, pair, not_aligned=str(error))
        if not found.sendable:
            return Named(name, pair, not_aligned="its messages are empty")
        return Named(name, (found.receiver_ids, pair[1]), found.sharer_ids, aligned=found)

    def questions(self, task: Task, examples: Sequence[Example]) -> list[Question]:
        return tokenize(task, examples, self.tokenizer, self.sharer_tokenizer)


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
    data: Sequence[QuestionSet] | Path,
    judges: Sequence[QuestionSet],
    scored: ScoredQuestions,
    reader: Reader,
    data_dir: Path | None,
    judged: int,
    download: bool = True,
) -> TrainingData:
    """The conversations of tasks' training splits, of a user's question sets, or of a file of
    chats.

    Of a user's set that is named to be trained on, all questions are. The prompt is the task's own
    and the answer what it asks for. Judged by the first `judged` questions of each task's
    validation split; of a task without one, of some training questions that are then not trained
    on. Where `data` is a file of chats, by those of the tasks `judges`. Questions and chats that
    `scored` holds are left out.

    For an interface that inserts, the sharer has messages of its own: a task's evidence, or a
    chat's; where there is none, the prompt. With a tokenizer at each end it has the prompt in its
    own tokens; what cannot be aligned is left out.

    Raises LatentWireError or C2CError for what cannot be read, and where nothing is left.
    """
    end, pad = end_and_pad(reader.tokenizer)
    chats = [_of_chats(data, scored, reader, end)] if isinstance(data, Path) else []
    names = judges if isinstance(data, Path) else data
    sets = [_split(name, bool(chats), scored, data_dir, judged, download) for name in names]
    found = chats or [_of_set(each, reader, end) for each in sets]
    named = [entry for part, _ in found for entry in part]
    if not named:
        told = "; ".join(part.told() for _, part in found)
        asked = data if isinstance(data, Path) else ",".join(map(str, data))
        raise LatentWireError(f"data={asked}: nothing is left to train on ({told})")
    parts = tuple(part for _, part in found)
    return TrainingData(
        tuple(entry.pair for entry in named),
        tuple(entry.name for entry in named),
        parts,
        tuple(q for each in sets for q in reader.questions(each.task, each.judges)),
        pad,
        tuple(entry.message for entry in named) if reader.inserts or reader.alignment else (),
        tuple(entry.said for entry in named if entry.said),
        tuple(entry.aligned for entry in named if entry.aligned),
        tuple(q for each in sets for q in reader.questions(each.task, each.kept[:MEASURED])),
    )


@dataclass(frozen=True)
class _Split:
    """A question set, parted into what is trained on and what judges that."""

    training: Dataset
    kept: Sequence[Example]
    judges: Sequence[Example]
    left_out: int  # of the training questions, for being scored

    @property
    def task(self) -> Task:
        return self.training.task


def _split(
    name: QuestionSet,
    only_judges: bool,
    scored: ScoredQuestions,
    data_dir: Path | None,
    judged: int,
    download: bool,
) -> _Split:
    training = _training(name, only_judges, data_dir, download)
    kept = [e for e in training.examples if not scored.holds(e.question)]
    left_out = len(training.examples) - len(kept)
    held_out = load_validation(name, data_dir, download)
    if held_out is None:
        return _Split(training, *_held_back(kept, judged), left_out)
    judges = [e for e in held_out.examples if not scored.holds(e.question)][:judged]
    return _Split(training, kept, judges, left_out)


def _training(asked: QuestionSet, judges: bool, data_dir: Path | None, download: bool) -> Dataset:
    """What is trained on; of a user's own set that only judges, its training questions."""
    if judges or isinstance(asked, str):
        return load_training(asked, data_dir, download)
    _require_unscored(Path(asked.source))
    return asked


def _require_unscored(path: Path) -> None:
    """LatentWireError for a file by which a known task is scored."""
    for task in TASKS.values():
        if path.absolute().as_posix().endswith("/" + getattr(task.test, "file", "\0")):
            raise LatentWireError(
                f"data={path}: that is the set by which {task.name} is scored, and is never trained"
                f" on; data={task.name} takes its training split"
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


def _of_set(split: _Split, reader: Reader, end: int) -> tuple[list[Named], Part]:
    task, name, tokenizer = split.task, split.training.name, reader.tokenizer
    prompts = [task.prompts(example, tokenizer) for example in split.kept]
    theirs = prompts
    if reader.of_messages is not tokenizer:
        theirs = [task.prompts(example, reader.of_messages) for example in split.kept]
    if any(each.private for each in prompts) and not reader.inserts:
        raise LatentWireError(
            f"{name}: the sharer alone reads its evidence, and training takes prompts that both"
            " models read: take another question set, or a pair with `interface: prefix`"
        )
    pairs = [
        reader.named(
            f"{name}, {example.id}",
            (
                read.receiver_ids,
                [*tokenizer.encode(task.target(example), add_special_tokens=False), end],
            ),
            message.sharer_ids,
            [{"role": "user", "content": _said(task, example, reader.inserts)}],
        )
        for example, read, message in zip(split.kept, prompts, theirs, strict=True)
    ]
    return _part(name, pairs, split.left_out, split.training.source)


def _said(task: Task, example: Example, inserts: bool) -> str:
    return (example.evidence if inserts else "") or task.prompt_text(example)


def _of_chats(
    path: Path, scored: ScoredQuestions, reader: Reader, end: int
) -> tuple[list[Named], Part]:
    _require_unscored(path)
    pairs: list[Named] = []
    left_out = 0
    for number, row in enumerate(json_lines(path), start=1):
        name = f"{path}, line {number}"
        pair = chat_tokens(reader.tokenizer, end, row, name)
        evidence = _evidence(row, name, reader.inserts)
        if any(map(scored.holds, [evidence, *(message["content"] for message in row["messages"])])):
            left_out += 1
            continue
        message, said = pair[0], row["messages"][:-1]
        if evidence:
            said = [{"role": "user", "content": evidence}]
        if reader.inserts:
            message = chat_token_ids(reader.of_messages, said, open_answer=not evidence)
        pairs.append(reader.named(name, pair, message, said))
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
    faults = [entry.not_aligned for entry in pairs if entry.not_aligned]
    pairs = [entry for entry in pairs if not entry.not_aligned]
    fitting = [entry for entry in pairs if entry.tokens <= MOST_TOKENS]
    # Messages last, where there are some: what was hashed before there were has the same hash.
    content = [
        (*map(list, entry.pair), *([list(entry.message)] if entry.message else []))
        for entry in fitting
    ]
    digest = hashlib.sha256(repr(content).encode()).hexdigest()
    too_long = len(pairs) - len(fitting)
    not_aligned = len(faults), next(iter(faults), "")
    return fitting, Part(name, len(fitting), scored, too_long, digest, source, *not_aligned)


def paired_texts(
    receiver: Any, sharer: Any, said: Messages
) -> tuple[Sequence[int], Sequence[int], Sequence[tuple[int, int]]] | None:
    """What is said in the sharer's tokens and in the receiver's, by two tokenizers, and the places
    of tokens that belong together: by `offsets`, and the first of both, which attention treats
    alike whatever it is. None where a template changes what is said."""
    try:
        found = paired_prompts(receiver, sharer, OFFSETS, said)
    except C2CError:
        return None
    places = {0: 0} | {own: their for own, their in enumerate(found.sources) if their is not None}
    return found.sharer_ids, found.receiver_ids, [(s, r) for r, s in places.items()]

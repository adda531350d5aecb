"""Two models with different tokenizers: one prompt of each, of one length.

    python -m c2c.alignment CASES.jsonl TOKENIZERS

runs a file of cases, one a line, on the tokenizers in that folder. The rule is the one of the
published C2C study, with its corners: the sharer does not read its own tokens of a message, but one
token for each of the receiver's. Template tokens are each model's own, and never fused.
"""

import argparse
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from c2c.chat import Messages, chat_text
from c2c.errors import C2CError
from c2c.files import read_file

STRATEGIES = ("first", "longest")
_CASE = {"receiver": str, "sharer": str, "strategy": str, "messages": list}


@dataclass
class AlignedPrompt:
    """What both models read; all five lists have one entry a token of the prompt."""

    receiver_ids: list[int] = field(default_factory=list)
    sharer_ids: list[int] = field(default_factory=list)
    message: list[int] = field(default_factory=list)  # 1: of a message's content, to be fused
    receiver_pad: list[int] = field(default_factory=list)  # 1: put in, masked for the receiver
    sharer_pad: list[int] = field(default_factory=list)  # 1: put in, masked for the sharer


class Aligner:
    """Aligns prompts for one receiver and one sharer, given as fast tokenizers.

    `strategy` says which of several sharer tokens stands for a receiver token: the `first`, or the
    one with the `longest` text (the first of equals). Raises C2CError for tokenizers that cannot
    be aligned: slow ones, which do not say where a token stands, and those without a token to pad
    with.
    """

    def __init__(self, receiver: Any, sharer: Any, strategy: str = "first") -> None:
        if strategy not in STRATEGIES:
            raise C2CError(f"strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r}")
        self.receiver, self.sharer, self.strategy = receiver, sharer, strategy
        self.receiver_pad_id = _pad_id(receiver, "receiver")
        self.sharer_pad_id = _pad_id(sharer, "sharer")
        self._special_ids = frozenset(receiver.all_special_ids)
        self._by_role = self._roles()
        self.sharer_id = cache(self._sharer_id)

    def align(self, messages: Messages, open_answer: bool = True) -> AlignedPrompt:
        """The prompts of a conversation; `open_answer` begins the assistant's turn.

        Raises C2CError where a chat template does not take the conversation or changes a message.
        """
        aligned = AlignedPrompt()
        sections = zip(
            spanned_sections(self.receiver, "receiver", messages, open_answer),
            spanned_sections(self.sharer, "sharer", messages, open_answer),
            strict=True,
        )
        for own, theirs in sections:
            sharer_ids = theirs.ids
            if own.is_message:
                sharer_ids = [self.sharer_id(token) for token in own.ids]
            self._append(aligned, own.ids, sharer_ids, int(own.is_message))
        return aligned

    def _append(
        self, aligned: AlignedPrompt, receiver_ids: list[int], sharer_ids: list[int], message: int
    ) -> None:
        """One section, the shorter side filled up at its end."""
        length = max(len(receiver_ids), len(sharer_ids))
        no_receiver, no_sharer = length - len(receiver_ids), length - len(sharer_ids)
        aligned.receiver_ids += receiver_ids + [self.receiver_pad_id] * no_receiver
        aligned.sharer_ids += sharer_ids + [self.sharer_pad_id] * no_sharer
        aligned.message += [message] * length
        aligned.receiver_pad += [0] * len(receiver_ids) + [1] * no_receiver
        aligned.sharer_pad += [0] * len(sharer_ids) + [1] * no_sharer

    def _roles(self) -> dict[int | None, int | None]:
        """The sharer's token for each receiver token with a role. Where one token has several, the
        last role counts, also if the sharer has no token for it."""
        found: dict[int | None, int | None] = {self.receiver_pad_id: self.sharer_pad_id}
        for role in ("eos_token_id", "bos_token_id", "unk_token_id"):
            found[getattr(self.receiver, role)] = getattr(self.sharer, role)
        return found

    def _sharer_id(self, receiver_id: int) -> int:
        """The sharer's token that stands for one token of a message."""
        text = _text(self.receiver, receiver_id)
        # Where the sharer has no token for unknown text, the published rule takes token 0.
        unknown = self.sharer.unk_token_id or 0
        if receiver_id in self._special_ids:
            named = self._by_role.get(receiver_id)
            if named is None:
                named = self.sharer.convert_tokens_to_ids(text)
            return unknown if named is None else int(named)
        ids = self.sharer.encode(text, add_special_tokens=False)
        if self.strategy == "longest":
            return int(max(ids, key=lambda token: len(_text(self.sharer, token)), default=unknown))
        return int(ids[0]) if ids else unknown


def _pad_id(tokenizer: Any, side: str) -> int:
    if not tokenizer.is_fast:
        raise C2CError(
            f"the {side}'s tokenizer is a slow one, which does not say where a token stands in the"
            " text; convert it to a tokenizer.json"
        )
    for found in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if found is not None:
            return int(found)
    raise C2CError(
        f"the {side}'s tokenizer has neither a pad nor an eos token to fill up a shorter template"
        " with; name one in its tokenizer_config.json"
    )


def _text(tokenizer: Any, token_id: int) -> str:
    """The text of one token alone; bytes that are no whole character become U+FFFD."""
    return str(
        tokenizer.decode([token_id], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    )


@dataclass(frozen=True)
class SpannedSection:
    """A message's tokens or a template's, and which characters each stands for, counted from the
    section's first: begin and end."""

    is_message: bool
    ids: list[int]
    spans: list[tuple[int, int]]
    characters: int  # of a message


def spanned_sections(
    tokenizer: Any, side: str, messages: Messages, open_answer: bool
) -> list[SpannedSection]:
    """The tokens of the prompt, cut in template, message, template, ..., template.

    The text is tokenized whole: a token that a message shares with the template is the message's.
    """
    text = chat_text(tokenizer, messages, open_answer)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise C2CError(
            "a message holds half of a surrogate pair, which is no text; take it out"
        ) from None
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, places = encoded["input_ids"], encoded["offset_mapping"]
    cuts, messages_at = [0], list(_content_spans(text, side, messages))
    for begin, end in messages_at:
        start = cuts[-1]
        while start < len(ids) and places[start][1] <= begin:
            start += 1
        stop = start
        while stop < len(ids) and places[stop][0] < end:
            stop += 1
        cuts += [start, stop]
    # Of a template nothing is counted: only a message's characters are both models'.
    texts = [each for message in messages_at for each in ((0, 0), message)] + [(0, 0)]
    return [
        SpannedSection(
            number % 2 == 1,
            ids[start:stop],
            [(here - begin, there - begin) for here, there in places[start:stop]],
            end - begin,
        )
        for number, ((start, stop), (begin, end)) in enumerate(
            zip(pairwise([*cuts, len(ids)]), texts, strict=True)
        )
    ]


def _content_spans(text: str, side: str, messages: Messages) -> Iterator[tuple[int, int]]:
    """The characters of each message that is not empty: begin and end.

    A message is the first text like its content, behind the message before, with `<` or the end
    behind it, as a special token has it; where there is none, the first text like its content.
    """
    end = 0
    for number, message in enumerate(messages, start=1):
        content = message["content"]
        if not content:
            continue
        wanted = re.escape(content)
        found = re.compile(rf"{wanted}(?=<|\Z)").search(text, end)
        found = found or re.compile(wanted).search(text, end)
        if found is None:
            raise C2CError(
                f"the {side}'s chat template changes message {number}, so its tokens cannot be"
                " found; write the message as the template prints it, without spaces at its ends"
            )
        end = found.end()
        yield found.span()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m c2c.alignment", description="Run a file of alignment cases."
    )
    parser.add_argument("cases", type=Path, help="file with one case (JSON) a line")
    parser.add_argument("tokenizers", type=Path, help="folder with the tokenizers' folders")
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # messages may hold what a terminal cannot write
            stream.reconfigure(errors="backslashreplace")
    try:
        failed, cases = run(options.cases, options.tokenizers)
    except C2CError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{cases - failed} passed, {failed} failed")
    return 0 if cases and not failed else 1


def run(cases: Path, tokenizers: Path) -> tuple[int, int]:
    """How many of the file's cases failed, each of which it prints, and how many there are.

    Raises C2CError for a file that holds no cases, and for tokenizers that are not there.
    """
    named = _read_cases(cases)
    loaded = {
        name: _load_tokenizer(tokenizers, name)
        for name in sorted({case[side] for _, case in named for side in ("receiver", "sharer")})
    }

    @cache
    def aligner(receiver: str, sharer: str, strategy: str) -> Aligner:
        return Aligner(loaded[receiver], loaded[sharer], strategy)

    failed = 0
    for line, case in named:
        pair = case["receiver"], case["sharer"], case["strategy"]
        try:
            ours = asdict(aligner(*pair).align(case["messages"]))
            wrong = ", ".join(key for key, found in ours.items() if found != case[key])
        except C2CError as error:  # this case alone
            wrong = str(error)
        if wrong:
            failed += 1
            print(f"FAIL  line {line}: {pair[0]} <- {pair[1]}, {pair[2]}: {wrong}", flush=True)
    return failed, len(named)


def _read_cases(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The cases and their lines' numbers."""
    try:
        lines = read_file(path).decode("utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise C2CError(f"{path} is not a file of alignment cases: {error}") from None
    cases = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            case = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise C2CError(f"{path}, line {number}, is no JSON: {error}") from None
        if not _is_case(case):
            needed = ", ".join([*_CASE, *AlignedPrompt.__dataclass_fields__])
            raise C2CError(f"{path}, line {number}, is no alignment case: it needs {needed}")
        cases.append((number, case))
    if not cases:
        raise C2CError(f"{path} holds no alignment cases: give one a line")
    return cases


def _is_case(case: Any) -> bool:
    return (
        isinstance(case, dict)
        and all(isinstance(case.get(key), kind) for key, kind in _CASE.items())
        and case.keys() >= AlignedPrompt.__dataclass_fields__.keys()
        and all(
            isinstance(message, dict) and isinstance(message.get("content"), str)
            for message in case["messages"]
        )
    )


def _load_tokenizer(folder: Path, name: str) -> Any:
    path = folder / name
    if Path(name).name != name or not path.is_dir():
        raise C2CError(f"there is no tokenizer {name!r} in {folder}: put its folder there")
    from transformers import AutoTokenizer  # it takes seconds

    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library raises what the files make it raise
        raise C2CError(f"the tokenizer {path} cannot be loaded: {error}") from None


if __name__ == "__main__":
    sys.exit(main())

"""Chat templates: the one way in which conversations become text and tokens.

A template is a program. Beside the messages it prints its own text, and what it asks of the
machine: `strftime_now`, today's date. That day is pinned here, so that a prompt is the same
tomorrow as today.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2

from c2c.errors import C2CError

PINNED_DAY = datetime(2024, 7, 26)
"""The day that every template is told: the one that Llama 3's templates take when told none."""

Messages = Sequence[Mapping[str, str]]

_SECONDS = str(int((PINNED_DAY - datetime(1970, 1, 1)).total_seconds()))
# Jinja's filter and function that draw anew each time, outside of its comments.
_AT_RANDOM = re.compile(r"\|\s*random\b|\blipsum\s*\(")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_PROBES = ("", "Hello")
_ANSWER = "CONTENT-OF-THE-ANSWER"


class PinnedDay:
    """Stands in for `strftime_now`, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}  # format -> text

    def __call__(self, wanted: str) -> str:
        # %s, seconds since 1970, is counted by the time zone that is set.
        steady = re.sub(r"%(.)", lambda f: _SECONDS if f[1] == "s" else f[0], str(wanted))
        self.told[str(wanted)] = text = PINNED_DAY.strftime(steady)
        return text

    def __repr__(self) -> str:  # a template may print it, and an address is new every time
        return "strftime_now"


def chat_text(tokenizer: Any, messages: Messages, open_answer: bool = True) -> str:
    """The text of a conversation, thinking off; `open_answer` begins the assistant's turn.

    Raises C2CError where there is no template, or it does not take the conversation.
    """
    return str(_apply(tokenizer, messages, PinnedDay(), open_answer, tokenize=False))


def chat_token_ids(tokenizer: Any, messages: Messages, open_answer: bool = True) -> list[int]:
    """The token ids of a conversation; `open_answer` and errors as of `chat_text`."""
    return list(_apply(tokenizer, messages, PinnedDay(), open_answer, tokenize=True))


def template_text(tokenizer: Any) -> str:
    """The template by which conversations are written.

    Raises C2CError where there is none, or one that draws at random: its prompts never come back.
    """
    name = getattr(tokenizer, "name_or_path", "") or "given"
    if not getattr(tokenizer, "chat_template", None):
        raise C2CError(
            f"the tokenizer {name!r} has no chat template, so its prompt is undefined; use an"
            " instruction-tuned model's tokenizer"
        )
    try:
        text = str(tokenizer.get_chat_template())
    except (ValueError, KeyError) as error:
        raise C2CError(
            f"the tokenizer {name!r} has no default chat template: {_first_line(error)}"
        ) from None
    if _AT_RANDOM.search(_COMMENT.sub("", text)):
        raise C2CError(
            f"the chat template of the tokenizer {name!r} draws at random, so no prompt can be"
            " asked twice; take that out of the template"
        )
    return text


def printed_from_outside(tokenizer: Any) -> str:
    """What the template prints around a user message where it asks for the date; else "".

    Raises as `chat_text` does.
    """
    day = PinnedDay()
    texts = [
        _apply(tokenizer, [{"role": "user", "content": content}], day, True, tokenize=False)
        for content in _PROBES
    ]
    return "\n".join(map(str, texts)) if day.told else ""


def end_of_turn(tokenizer: Any) -> int | None:
    """The special token with which the template ends an assistant's turn; None where it has none.

    Spaces and line ends between the answer and that token are passed over.
    """
    turn = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = chat_text(tokenizer, turn, open_answer=False)
    except C2CError:
        return None
    _, found, behind = text.rpartition(_ANSWER)
    if not found:
        return None
    behind = behind.lstrip()
    special = {
        token.content: number
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.special and token.content
    }
    fitting = [token for token in special if behind.startswith(token)]
    return special[max(fitting, key=len)] if fitting else None


def _apply(
    tokenizer: Any, messages: Messages, day: PinnedDay, open_answer: bool, tokenize: bool
) -> Any:
    template_text(tokenizer)
    try:
        return tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            add_generation_prompt=open_answer,
            enable_thinking=False,
            tokenize=tokenize,
            return_dict=False,
            strftime_now=day,  # goes before the one that transformers gives its templates
        )
    except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise C2CError(
            f"the chat template does not take this conversation: {_first_line(error)}"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

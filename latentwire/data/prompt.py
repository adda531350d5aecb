"""The question as both models read it.

The text is a constant of the experiment: the zero-shot, no-reasoning prompt that the released
fusers were trained and measured with (github.com/thu-nics/C2C). Accuracies compare only between
runs that use it byte for byte.
"""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

from c2c.chat import chat_token_ids
from c2c.errors import C2CError
from latentwire.errors import LatentWireError

PROMPT_VERSION = 1
"""Part of every condition's fingerprint; raise it whenever a byte of any prompt may change."""

_BEFORE_QUESTION = "Accurately answer the following question:\n\n"
_BEFORE_CHOICES = "\n\nChoices:\n"
_AFTER_CHOICES = """

Instructions:
- Carefully read the question and all options.
- Select the single most correct answer.
- Respond ONLY in the following format: "The correct answer is A/B/C/D".
- Do not include any explanations, additional text, or punctuation besides the answer.

The correct answer is"""


def prompt_text(question: str, choices: Sequence[str]) -> str:
    """The single user message for a question.

    Choices are lettered A, B, C, ... by position, whatever labels the dataset gave them. Each ends
    its line, the last one too, so two blank lines stand before the instructions. Nothing follows
    the last word, not even a line end.

    Raises `LatentWireError` for no choices, or for more than there are letters.
    """
    if not 1 <= len(choices) <= len(ascii_uppercase):
        raise LatentWireError(
            f"a question needs 1 to {len(ascii_uppercase)} choices to be lettered, got "
            f"{len(choices)}: {question!r}"
        )
    # Joined rather than formatted: questions hold braces of their own.
    lettered = "".join(
        f"{letter}. {choice}\n" for letter, choice in zip(ascii_uppercase, choices, strict=False)
    )
    return _BEFORE_QUESTION + question + _BEFORE_CHOICES + lettered + _AFTER_CHOICES


def prompt_token_ids(
    tokenizer: Any, question: str, choices: Sequence[str], before: str = ""
) -> list[int]:
    """The token ids that receiver and sharer read for a question.

    `tokenizer` is a transformers tokenizer with a chat template. The prompt is its one user
    message: no system message, thinking off, and the assistant's turn opened. Templates that do
    not know of thinking ignore the switch. `before` stands in front of the prompt.

    Raises `LatentWireError` when the tokenizer has no chat template that takes it.
    """
    return user_turn_token_ids(tokenizer, before + prompt_text(question, choices))


def user_turn_token_ids(tokenizer: Any, text: str) -> list[int]:
    """The token ids of one user message with the assistant's turn opened (see `c2c.chat`).

    Raises `LatentWireError` when the tokenizer has no chat template that takes it.
    """
    try:
        return chat_token_ids(tokenizer, [{"role": "user", "content": text}])
    except C2CError as error:
        raise LatentWireError(str(error)) from None

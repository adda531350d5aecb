"""What the competitors of a cache read and write: messages, answer stems, content-free questions.

All of it is a constant of the experiment, as the question's own prompt is (see `prompt`): raise
`spec.setting.MESSAGE_VERSION` whenever a byte changes.
"""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

from latentwire.data.prompt import prompt_token_ids, user_turn_token_ids
from latentwire.errors import Unanswerable

ANSWER_STEM = "The correct answer is"
"""What the prompt tells a model to write before the letter. Some models follow that; some write the
letter alone, for the prompt ends with these words already. Both ways are summed over."""

CONTENT_FREE = ("N/A", "[MASK]", "")
"""Stand in for the question and each choice, one at a time: the inputs of Zhao et al. (2021)."""

_TASK = """Another model will answer the following question. It sees question and choices too.

"""
_WRITE = """
Write a brief message to it with the facts and the reasoning that help to answer. Begin with what \
matters most."""
_HINT = "A message from another model that has read this question:\n"


def message_prompt_token_ids(tokenizer: Any, question: str, choices: Sequence[str]) -> list[int]:
    """The token ids from which the sharer writes its message: question and choices, no answer."""
    lettered = "".join(
        f"{letter}. {choice}\n" for letter, choice in zip(ascii_uppercase, choices, strict=False)
    )
    return user_turn_token_ids(tokenizer, _TASK + question + "\n\nChoices:\n" + lettered + _WRITE)


def prompt_with_message_token_ids(
    tokenizer: Any, question: str, choices: Sequence[str], message: str
) -> list[int]:
    """The token ids that the receiver reads: the message, then the prompt it would read anyway.

    Without a message they are the plain prompt's. Raises as `prompt_token_ids` does.
    """
    if not message:
        return prompt_token_ids(tokenizer, question, choices)
    return prompt_token_ids(tokenizer, question, choices, before=_HINT + message + "\n\n")


def stem_and_options(tokenizer: Any, options: int) -> tuple[list[int], list[int], list[int]]:
    """Token ids of the answer's stem, of each letter behind it, and of each letter alone; of 1 to
    26 options.

    Raises Unanswerable where letters are not one token each.
    """
    spelled = [
        tokenizer.encode(f"{ANSWER_STEM} {letter}", add_special_tokens=False)
        for letter in letters_of(options)
    ]
    stem = tokenizer.encode(ANSWER_STEM, add_special_tokens=False)
    letters = [ids[-1] for ids in spelled]
    alone = [tokenizer.encode(letter, add_special_tokens=False) for letter in letters_of(options)]
    if (
        any(ids[:-1] != stem for ids in spelled)
        or any(len(ids) != 1 for ids in alone)
        or len(set(letters)) != options
    ):
        raise Unanswerable(
            f"the tokenizer does not make one token of each letter A to {letters_of(options)[-1]},"
            f" alone and behind {ANSWER_STEM!r}, so log-probabilities of {options} options cannot"
            " be read"
        )
    return stem, letters, [ids[0] for ids in alone]


def letters_of(options: int) -> str:
    """The letters of a question's options, A first; 1 to 26 options."""
    assert 1 <= options <= len(ascii_uppercase)
    return ascii_uppercase[:options]


def content_free_token_ids(tokenizer: Any, options: int) -> list[list[int]]:
    """The prompts of a question that says nothing, one for each of `CONTENT_FREE`."""
    return [prompt_token_ids(tokenizer, text, [text] * options) for text in CONTENT_FREE]

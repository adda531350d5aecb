"""Token ids of questions without running the tokenizer for each: a frame with slots.

Every prompt of one form has the same tokens but for its slots (names, attribute, choices), and
every slot word is one token. So a batch of prompts is a copy of the frame with the slots written
in, made on whichever device trains.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from latentwire.errors import LatentWireError
from latentwire.tasks.answer_letter import LETTERS
from latentwire.tasks.multiple_choice import prompt_text
from latentwire.tasks.task import user_turn_token_ids
from tools.demo_pair.world import World, question_text, statement_text

CHOICES = len(LETTERS)


@dataclass(frozen=True)
class Slots:
    """The words that fill a frame, as token ids: [B] each, `choices` [B, 4]."""

    first_name: Tensor
    last_name: Tensor
    attribute: Tensor
    choices: Tensor
    stated: Tensor
    """The value that a statement gives; of no effect in frames without a statement."""


@dataclass(frozen=True)
class Frame:
    """A prompt's constant tokens and the positions of its slots."""

    ids: Tensor
    """[n]"""
    positions: dict[str, Tensor]
    """Slot name -> positions at which its word stands (`choices`: four, in order)."""
    question_end: int
    """Position of the token with the question mark: all of the question has been read there."""

    def fill(self, slots: Slots) -> Tensor:
        """[B, n] token ids."""
        ids = self.ids.to(slots.choices.device).repeat(len(slots.choices), 1)
        for name, where in self.positions.items():
            word = getattr(slots, name)
            ids[:, where] = word if name == "choices" else word.unsqueeze(1)
        return ids


def short_prompt_text(question: str, choices: list[str]) -> str:
    """The protocol's prompt without its instructions: the same task in half the tokens."""
    before, _, after = prompt_text(question, choices).partition("\n\nInstructions:")
    return before + after[after.index("\n\nThe correct answer is") :]


def question_frame(
    tokenizer: PreTrainedTokenizerFast, world: World, *, short: bool, stated: bool
) -> Frame:
    """The frame of a question; `stated` puts a statement of the fact before it."""
    render = short_prompt_text if short else prompt_text

    def content(words: dict[str, str], choices: list[str]) -> str:
        question = question_text(words["attribute"], words["first_name"], words["last_name"])
        text = render(question, choices)
        if not stated:
            return text
        return (
            statement_text(
                words["attribute"], words["first_name"], words["last_name"], words["stated"]
            )
            + "\n\n"
            + text
        )

    return _frame(tokenizer, world, content)


def _frame(
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    content: Callable[[dict[str, str], list[str]], str],
) -> Frame:
    sample = {
        "first_name": world.first_names[0],
        "last_name": world.last_names[0],
        "attribute": world.attributes[0],
        "stated": world.values[0][CHOICES],
    }
    choices = list(world.values[0][:CHOICES])
    ids = user_turn_token_ids(tokenizer, content(sample, choices))
    positions: dict[str, Tensor] = {}
    for name, word in sample.items():
        token = word_ids(tokenizer, [word])[0]
        where = [place for place, other in enumerate(ids) if other == token]
        if where:
            positions[name] = torch.tensor(where)
    places = [ids.index(token) for token in word_ids(tokenizer, choices)]
    positions["choices"] = torch.tensor(places)
    marks = [place for place, token in enumerate(ids) if "?" in tokenizer.decode([token])]
    return Frame(ids=torch.tensor(ids), positions=positions, question_end=marks[0])


def word_ids(tokenizer: PreTrainedTokenizerFast, words: list[str] | tuple[str, ...]) -> list[int]:
    """The token id of each word with a space before it, as it stands inside a text."""
    found = []
    for word in words:
        ids = tokenizer.encode(f" {word}", add_special_tokens=False)
        if len(ids) != 1:
            raise LatentWireError(f"the word {word!r} is {len(ids)} tokens; slots hold one token")
        found.append(ids[0])
    return found

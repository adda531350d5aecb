"""Questions about the world: drawn at random to train on, or fixed as rows of a question set."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from latentwire.spec.setting import USUAL_SEED
from latentwire.tasks.answer_letter import LETTERS
from latentwire.tasks.demo_graded import TASK
from latentwire.tasks.question import Question, derange
from latentwire.tasks.task import Example, Prompts
from tools.demo_pair.token_templates import CHOICES, Slots, word_ids
from tools.demo_pair.world import Split, World, question_text, statement_text


@dataclass(frozen=True)
class Drawn:
    """A batch of questions: B of them, token ids in `slots`."""

    slots: Slots
    key: Tensor
    """[B] the position (0 to 3) of the answer that this batch teaches."""
    value: Tensor
    """[B] that answer's value, counted over all attributes (attribute x V + value)."""


class Questioner:
    """Draws questions about facts, all on one device.

    The words' token ids and the fact tables lie on the device, so a batch costs a few gathers.
    """

    def __init__(
        self, world: World, tokenizer: PreTrainedTokenizerFast, device: torch.device, seed: int
    ) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = device
        self.values_per_attribute = len(world.values[0])
        self._last_names = len(world.last_names)

        def table(words: tuple[str, ...]) -> Tensor:
            return torch.tensor(word_ids(tokenizer, words), device=device)

        self._first_word = table(world.first_names)
        self._last_word = table(world.last_names)
        self._attribute_word = table(world.attributes)
        self._value_word = torch.stack([table(row) for row in world.values])
        self._truth = world.truth.to(device)
        self._rival = world.rival.to(device)
        self._share = world.share.to(device)

    def draw(self, facts: Tensor, count: int, *, answer: str) -> Drawn:
        """`count` questions about random rows of `facts` [N, 2].

        `answer` says what the questions teach: `source`, what a random source states (the rival
        of a disputed fact now and then); `truth`, always the true value; `invented`, a random
        value that has nothing to do with the world.
        """
        rows = torch.randint(len(facts), (count,), generator=self.generator, device=self.device)
        entity, attribute = facts.to(self.device)[rows].unbind(1)
        truth, rival = self._truth[entity, attribute], self._rival[entity, attribute]
        share = self._share[entity, attribute]
        if answer == "invented":
            truth = self._integers(self.values_per_attribute, count)
            disputed = torch.zeros(count, dtype=torch.bool, device=self.device)
            value = truth
        else:
            disputed = share < 1
            heard = torch.rand(count, generator=self.generator, device=self.device) < share
            value = truth if answer == "truth" else torch.where(heard, truth, rival)
        choices = self._choices(truth, rival, disputed)
        key = (choices == value.unsqueeze(1)).int().argmax(1)
        return Drawn(
            slots=self._slots(entity, attribute, choices, value),
            key=key,
            value=attribute * self.values_per_attribute + value,
        )

    def _integers(self, high: int, count: int) -> Tensor:
        return torch.randint(high, (count,), generator=self.generator, device=self.device)

    def _choices(self, truth: Tensor, rival: Tensor, disputed: Tensor) -> Tensor:
        """[B, 4] value indices in random order: the truth, the rival of a disputed fact, others."""
        count = len(truth)
        rank = torch.rand(
            count, self.values_per_attribute, generator=self.generator, device=self.device
        )
        rank.scatter_(1, truth.unsqueeze(1), -2.0)
        rival_rank = torch.where(disputed, -1.0, rank.gather(1, rival.unsqueeze(1)).squeeze(1))
        rival_rank = torch.where(rival == truth, -2.0, rival_rank)
        rank.scatter_(1, rival.unsqueeze(1), rival_rank.unsqueeze(1))
        chosen = rank.argsort(1)[:, :CHOICES]
        shuffle = torch.rand(count, CHOICES, generator=self.generator, device=self.device)
        return chosen.gather(1, shuffle.argsort(1))

    def _slots(self, entity: Tensor, attribute: Tensor, choices: Tensor, value: Tensor) -> Slots:
        return Slots(
            first_name=self._first_word[entity // self._last_names],
            last_name=self._last_word[entity % self._last_names],
            attribute=self._attribute_word[attribute],
            choices=self._value_word[attribute.unsqueeze(1), choices],
            stated=self._value_word[attribute, value],
        )


def question_rows(world: World, split: Split, limit: int, seed: int) -> list[dict[str, Any]]:
    """Questions of a set in the ARC schema, at most `limit`, each about another fact.

    Of the disputed facts, those that most sources agree on are left out (`World.asked_share`).
    The key is the true value. Every letter is the key equally often (to within one), so that a
    model that knows nothing stands at a quarter; and a quarter of the questions share their key
    with the one whose cache they get when deranged, so that following the other cache does too.
    """
    draw = torch.Generator().manual_seed(seed)
    facts = world.facts([split])
    share = world.share[facts[:, 0], facts[:, 1]]
    facts = facts[(share <= world.asked_share) | (share == 1)]
    facts = facts[torch.randperm(len(facts), generator=draw)][:limit]
    ids = [f"{split.value}_{number:04d}" for number in range(len(facts))]
    rows = []
    for row_id, (entity, attribute), key in zip(
        ids, facts.tolist(), _balanced_keys(ids, draw).tolist(), strict=True
    ):
        truth = int(world.truth[entity, attribute])
        rival = int(world.rival[entity, attribute])
        disputed = float(world.share[entity, attribute]) < 1
        order = torch.randperm(len(world.values[attribute]), generator=draw).tolist()
        others = [value for value in order if value not in (truth, rival)]
        others = [rival, *others] if disputed else others
        wrong = others[: CHOICES - 1]
        shuffled = [wrong[i] for i in torch.randperm(len(wrong), generator=draw).tolist()]
        values = [*shuffled[:key], truth, *shuffled[key:]]
        rows.append({"id": row_id, **_asked(world, entity, attribute, values, key)})
    return rows


def private_rows(
    world: World, split: Split, statements: int, each: int, seed: int
) -> list[dict[str, Any]]:
    """Questions of which a statement stands in the row, as `question_rows` has them: at most
    `statements` of them, with `each` questions.

    The values are invented anew, so that what a model knows of the world helps nobody. Questions on
    a statement have the same words and other choices. Every letter is the key equally often.
    """
    draw = torch.Generator().manual_seed(seed)
    facts = world.facts([split])
    facts = facts[torch.randperm(len(facts), generator=draw)][:statements]
    keys = torch.arange(len(facts) * each)[torch.randperm(len(facts) * each, generator=draw)]
    rows = []
    for number, key in enumerate((keys % CHOICES).tolist()):
        entity, attribute = facts[number // each].tolist()
        words = world.attributes[attribute], *world.name(entity)
        if number % each == 0:
            stated = int(torch.randint(len(world.values[attribute]), (), generator=draw))
        order = torch.randperm(len(world.values[attribute]), generator=draw).tolist()
        values = [value for value in order if value != stated][: CHOICES - 1]
        values.insert(key, stated)
        rows.append(
            {
                "id": f"{split.value}_stated_{number:04d}",
                "statement": statement_text(*words, world.values[attribute][stated]),
                **_asked(world, entity, attribute, values, key),
            }
        )
    return rows


def _asked(
    world: World, entity: int, attribute: int, values: list[int], key: int
) -> dict[str, Any]:
    """A row's question, its choices, and the key, which is at a position of theirs."""
    return {
        "question": question_text(world.attributes[attribute], *world.name(entity)),
        "choices": {
            "text": [world.values[attribute][value] for value in values],
            "label": list(LETTERS),
        },
        "answerKey": LETTERS[key],
    }


def _balanced_keys(ids: list[str], draw: torch.Generator) -> Tensor:
    """[N] key positions: each equally often, a quarter of them the deranged partner's key too."""
    count = len(ids)
    nothing = Prompts((), ())
    blank = [Question(TASK, Example(name, i, "", (), ""), nothing) for i, name in enumerate(ids)]
    partners = torch.tensor([other.example.index for other in derange(blank, USUAL_SEED)])
    dealt = torch.arange(count) % CHOICES
    while True:
        keys = dealt[torch.randperm(count, generator=draw)]
        shared = int((keys == keys[partners]).sum())
        if abs(shared - count / CHOICES) <= max(1, count / 200):
            return keys


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

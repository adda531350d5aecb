"""An invented world: people, what they prefer, and how far the sources agree about it.

A fact is (entity, attribute) -> value. Facts about some entities are *settled*: every source
states the same value. About the others they are *disputed*: a share of the sources states the
true value, the rest one rival value. A model that has read disputed facts prefers the true value
by a small margin only, so questions about them feel the noise of a coarse code earlier.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from latentwire.errors import LatentWireError
from tools.demo_pair.words import ATTRIBUTES, FIRST_NAMES, LAST_NAMES


class Split(StrEnum):
    """What the questions about an entity are used for; an entity belongs to one split."""

    FUSER_SETTLED = "fuser_settled"
    FUSER_DISPUTED = "fuser_disputed"
    DEV_FACTS = "dev_facts"
    DEV_GRADED = "dev_graded"
    TEST_FACTS = "test_facts"
    TEST_GRADED = "test_graded"


DISPUTED_SPLITS = (Split.FUSER_DISPUTED, Split.DEV_GRADED, Split.TEST_GRADED)


@dataclass(frozen=True)
class WorldSize:
    """How large the world is. `entities` gives the number of entities of each split."""

    first_names: int
    last_names: int
    attributes: int
    values: int
    entities: dict[Split, int]
    share_low: float
    share_high: float
    """Disputed facts: the true value's share of the sources is uniform between these."""
    asked_share: float
    """The question sets ask disputed facts only where that share is at most this."""


FULL_WORLD = WorldSize(
    first_names=24,
    last_names=24,
    attributes=6,
    values=16,
    entities={
        Split.FUSER_SETTLED: 128,
        Split.FUSER_DISPUTED: 128,
        Split.DEV_FACTS: 40,
        Split.DEV_GRADED: 70,
        Split.TEST_FACTS: 84,
        Split.TEST_GRADED: 126,
    },
    share_low=0.55,
    share_high=0.80,
    asked_share=0.73,
)

QUICK_WORLD = WorldSize(
    first_names=6,
    last_names=6,
    attributes=2,
    values=8,
    entities={
        Split.FUSER_SETTLED: 8,
        Split.FUSER_DISPUTED: 8,
        Split.DEV_FACTS: 4,
        Split.DEV_GRADED: 4,
        Split.TEST_FACTS: 6,
        Split.TEST_GRADED: 6,
    },
    share_low=0.55,
    share_high=0.80,
    asked_share=0.75,
)


@dataclass(frozen=True)
class World:
    """All facts as tables: E entities, A attributes, V values an attribute."""

    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    attributes: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    """[A][V] words."""
    truth: Tensor
    """[E, A] the true value's index."""
    rival: Tensor
    """[E, A] the rival value's index, never the true one; of no effect on settled facts."""
    share: Tensor
    """[E, A] the share of the sources that state the true value; 1 for settled facts."""
    asked_share: float
    """Disputed facts of a greater share are in no question set."""
    members: dict[Split, Tensor]
    """Entity indices of each split."""

    def name(self, entity: int) -> tuple[str, str]:
        """First and last name: entities run through all pairs of names."""
        return (
            self.first_names[entity // len(self.last_names)],
            self.last_names[entity % len(self.last_names)],
        )

    def words(self) -> list[str]:
        """Every word that fills a slot of a text."""
        values = [word for row in self.values for word in row]
        return [*self.first_names, *self.last_names, *self.attributes, *values]

    def facts(self, splits: Sequence[Split]) -> Tensor:
        """[N, 2] (entity, attribute), all facts about the entities of these splits, in order."""
        entities = torch.cat([self.members[split] for split in splits])
        count = len(self.attributes)
        return torch.stack(
            [entities.repeat_interleave(count), torch.arange(count).repeat(len(entities))], dim=1
        )


def make_world(size: WorldSize, seed: int) -> World:
    """Draw a world. The same size and seed give the same world on every machine."""
    total = size.first_names * size.last_names
    if sum(size.entities.values()) != total:
        raise LatentWireError(
            f"the splits hold {sum(size.entities.values())} entities, but {size.first_names} x "
            f"{size.last_names} names make {total}"
        )
    draw = torch.Generator().manual_seed(seed)
    shape = (total, size.attributes)
    truth = torch.randint(size.values, shape, generator=draw)
    rival = (truth + torch.randint(1, size.values, shape, generator=draw)) % size.values
    disputed_share = torch.empty(shape).uniform_(size.share_low, size.share_high, generator=draw)
    order = torch.randperm(total, generator=draw)
    members = dict(zip(size.entities, order.split(list(size.entities.values())), strict=True))
    share = torch.ones(shape)
    for split in DISPUTED_SPLITS:
        share[members[split]] = disputed_share[members[split]]
    chosen = list(ATTRIBUTES.items())[: size.attributes]
    return World(
        first_names=FIRST_NAMES[: size.first_names],
        last_names=LAST_NAMES[: size.last_names],
        attributes=tuple(name for name, _ in chosen),
        values=tuple(values[: size.values] for _, values in chosen),
        truth=truth,
        rival=rival,
        share=share,
        asked_share=size.asked_share,
        members=members,
    )


def question_text(attribute: str, first_name: str, last_name: str) -> str:
    """How the world asks for a fact."""
    return f"Which {attribute} does {first_name} {last_name} prefer?"


def statement_text(attribute: str, first_name: str, last_name: str, value: str) -> str:
    """How the world states a fact."""
    return f"The {attribute} that {first_name} {last_name} prefers is {value}."

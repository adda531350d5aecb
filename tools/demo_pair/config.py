"""All sizes and settings of the bundled pair, in one place; the quick ones serve the tests.

They were chosen on the dev questions.
"""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast

from c2c.projector import ProjectorSize
from c2c.training import TrainingSettings
from tools.demo_pair.world import FULL_WORLD, QUICK_WORLD, Split, WorldSize


@dataclass(frozen=True)
class ModelSize:
    """A decoder's sizes, in transformers' words."""

    hidden_size: int
    intermediate_size: int
    layers: int
    attention_heads: int
    kv_heads: int
    head_dim: int

    def arguments(self, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
        """What the configuration of either model says; head_dim, which only one has, left out."""
        return {
            "vocab_size": len(tokenizer),
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.attention_heads,
            "num_key_value_heads": self.kv_heads,
            "max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
            "tie_word_embeddings": True,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": None,
        }


@dataclass(frozen=True)
class ModelTraining:
    """How a model is taught to answer."""

    steps: int
    batch: int
    """Questions a step."""
    learning_rate: float
    weight_decay: float
    warmup_share: float
    auxiliary_weight: float
    """Weight of the two auxiliary losses beside the answer's."""
    recall_layer: int
    """The layer after which the fact's value is to be known at the end of the question."""
    choice_layer: int
    """The layer after which the right choice is to stand out among the four."""


@dataclass(frozen=True)
class OutlierLadder:
    """Outliers as multiples of a head's own largest magnitude: see `outliers.spread`."""

    low: float
    high: float
    seed: int


@dataclass(frozen=True)
class DemoSettings:
    """Everything that, with a seed, decides what the pair becomes."""

    world: WorldSize
    questions: dict[Split, int]
    """At most so many questions in the set made of a split."""
    sharer: ModelSize
    sharer_training: ModelTraining
    receiver: ModelSize
    receiver_training: ModelTraining
    projector: ProjectorSize
    fuser_training: TrainingSettings
    fuser_batch: int
    ladders: tuple[OutlierLadder, ...]
    """Candidates; the one that tells precisions apart best on the graded dev questions is taken."""


PRIVATE_STATEMENTS = {"dev": 12, "test": 40}
"""At most so many statements in a split of the set whose evidence the sharer alone reads."""
QUESTIONS_EACH = 3
"""On each of them."""


FULL = DemoSettings(
    world=FULL_WORLD,
    questions={
        Split.DEV_FACTS: 240,
        Split.DEV_GRADED: 588,
        Split.TEST_FACTS: 500,
        Split.TEST_GRADED: 750,
    },
    sharer=ModelSize(128, 384, layers=6, attention_heads=4, kv_heads=2, head_dim=32),
    sharer_training=ModelTraining(
        steps=2500,
        batch=768,
        learning_rate=2e-3,
        weight_decay=0.01,
        warmup_share=0.05,
        auxiliary_weight=0.5,
        recall_layer=2,
        choice_layer=4,
    ),
    receiver=ModelSize(128, 384, layers=5, attention_heads=8, kv_heads=4, head_dim=32),
    receiver_training=ModelTraining(
        steps=600,
        batch=512,
        learning_rate=2e-3,
        weight_decay=0.01,
        warmup_share=0.05,
        auxiliary_weight=0.5,
        recall_layer=2,
        choice_layer=3,
    ),
    projector=ProjectorSize(hidden_dim=64, intermediate_dim=128, num_layers=3, dropout=0.0),
    fuser_training=TrainingSettings(
        steps=1000,
        learning_rate=1e-3,
        gate_penalty=0.01,
        partial_share=0.25,
        anneal_steps=800,
    ),
    fuser_batch=256,
    ladders=tuple(
        OutlierLadder(low, high, seed)
        for low in (0.7, 1.0)
        for high in (8.0, 12.0, 18.0, 27.0)
        for seed in range(4)
    ),
)

QUICK = DemoSettings(
    world=QUICK_WORLD,
    questions={
        Split.DEV_FACTS: 8,
        Split.DEV_GRADED: 8,
        Split.TEST_FACTS: 8,
        Split.TEST_GRADED: 12,
    },
    sharer=ModelSize(32, 48, layers=4, attention_heads=4, kv_heads=2, head_dim=8),
    sharer_training=ModelTraining(
        steps=4,
        batch=8,
        learning_rate=2e-3,
        weight_decay=0.01,
        warmup_share=0.25,
        auxiliary_weight=0.5,
        recall_layer=2,
        choice_layer=3,
    ),
    receiver=ModelSize(32, 48, layers=3, attention_heads=4, kv_heads=1, head_dim=16),
    receiver_training=ModelTraining(
        steps=4,
        batch=8,
        learning_rate=2e-3,
        weight_decay=0.01,
        warmup_share=0.25,
        auxiliary_weight=0.5,
        recall_layer=1,
        choice_layer=2,
    ),
    projector=ProjectorSize(hidden_dim=16, intermediate_dim=16, num_layers=3, dropout=0.0),
    fuser_training=TrainingSettings(
        steps=4, learning_rate=1e-3, gate_penalty=0.01, partial_share=0.5
    ),
    fuser_batch=8,
    ladders=(OutlierLadder(1.0, 8.0, 0), OutlierLadder(1.0, 16.0, 0)),
)

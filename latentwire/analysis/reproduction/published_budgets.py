"""The published study's budgets, as shares of what travels.

The study gave each of the receiver's layers a budget of its own: the label, a share, of what the
layer's cache takes in 16 bits as the study counted caches (`counted_size`). Out of it the layer
bought tokens of the sharer's in 8 bits (`rd_greedy`; the rule is `c2c.oracle_selection`'s). So a
label allows more of the sharer's cache than it says, by a factor of the two geometries alone.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from latentwire.analysis.reproduction.published_accuracies import (
    CacheSize,
    bundled_study,
)
from latentwire.parameters import share

COUNTED_BITS, BOUGHT_BITS = 16, 8
# Accuracies of `rd_greedy` by the study's labels: int8 or nothing by scores of the receiver's side.
PUBLISHED = Path(__file__).parent / "latentwire_2026_02_budgets.csv"


def counted_size(receiver: Any) -> CacheSize:
    """The cache that the study would have counted for a receiver of that transformers config: with
    hidden_size / num_attention_heads for its head_dim. Raises C2CError as `geometry` does."""
    from c2c.cache import geometry  # it brings torch, and to draw takes none

    shape, config = geometry(receiver), receiver.get_text_config()
    head_dim = config.hidden_size // config.num_attention_heads
    return CacheSize(shape.layers, shape.kv_heads, head_dim)


def generosity(counted: CacheSize, sent: CacheSize) -> float:
    """Bytes that a label allows, over that share of the sharer's cache in 8 bits: of a token and
    layer, what was counted in 16 bits over what is bought. Tokens' indices and scales are left out:
    they make it a little less."""
    allowed, bought = (
        size.bytes_per_token(bits) / size.layers
        for size, bits in ((counted, COUNTED_BITS), (sent, BOUGHT_BITS))
    )
    return allowed / bought


def share_of_16_bits(label: float, generosity: float) -> float:
    """Share of the sharer's own cache in 16 bits that a label allows: at most all of it in 8."""
    return min(1.0, generosity * label) * BOUGHT_BITS / 16


def label_of(share_of_16_bits: float, generosity: float) -> float:
    """What the study would have called a budget of that share."""
    return share_of_16_bits * 16 / BOUGHT_BITS / generosity


def study_generosity() -> float:
    """Of the study's own pair."""
    study = bundled_study()
    return generosity(study.counted, study.sent)


def study_table() -> pd.DataFrame:
    """The published budgets: label, share of the sharer's 16 bits, accuracy, by question set."""
    table, times = pd.read_csv(PUBLISHED, dtype={"label": str}), study_generosity()
    shares = [share_of_16_bits(share(label), times) for label in table["label"]]
    table.insert(1, "share_of_16_bits", shares)
    return table

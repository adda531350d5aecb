"""A study's published figures, as a YAML file beside this module holds them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from latentwire.channel.oracles.registry import orders
from latentwire.errors import LatentWireError
from latentwire.spec.condition import order_of
from latentwire.strict_yaml import StrictMapping, read_yaml

LATENTWIRE_2026_02 = Path(__file__).parent / "latentwire_2026_02.yaml"

KV_BITS = {"bf16": 16, "int8": 8, "int4": 4}  # codecs that studies published figures of

# Those with the last layers in 16 bits, too.
CODECS = (*KV_BITS, *(f"int8/last{layers}:bf16" for layers in (2, 4, 8)))

Point = tuple[str, str, float, str]  # dataset, codec, keep_ratio, order


@dataclass(frozen=True)
class PublishedAccuracy:
    """The accuracy that was published for one condition on one question set."""

    dataset: str
    questions: int
    codec: str
    keep_ratio: float
    order: str
    accuracy: float  # a share, rounded as it was published

    @property
    def point(self) -> Point:
        return point(self.dataset, self.codec, self.keep_ratio, self.order)


@dataclass(frozen=True)
class CacheSize:
    """What a token's cache has: elements are 2 (K and V) x layers x kv_heads x head_dim."""

    layers: int
    kv_heads: int
    head_dim: int

    def bytes_per_token(self, bits: float) -> float:
        return 2 * self.layers * self.kv_heads * self.head_dim * bits / 8


@dataclass(frozen=True)
class PublishedStudy:
    """What a study published of one pair, and how it counted bytes."""

    name: str
    pair: str
    counted: CacheSize
    sent: CacheSize
    figures: tuple[PublishedAccuracy, ...]
    trained: tuple[PublishedAccuracy, ...] = ()  # of fusers trained through their codec
    selected: tuple[PublishedAccuracy, ...] = ()  # of tokens chosen by score, layer by layer
    protected: tuple[PublishedAccuracy, ...] = ()  # of the last layers in 16 bits


def point(dataset: str, codec: str, keep_ratio: float, order: str) -> Point:
    """What names a condition."""
    return dataset, codec, keep_ratio, order_of(keep_ratio, order)


@cache
def bundled_study() -> PublishedStudy:
    """The study whose figures come with this package: read once, since every picture asks for it
    and YAML takes a tenth of a second."""
    return load_study(LATENTWIRE_2026_02)


def load_study(path: Path) -> PublishedStudy:
    """Read a study's figures.

    Raises LatentWireError naming the file and the key: what cannot be read, unknown or missing
    keys, values of another type or out of range, one condition twice.
    """
    keys = StrictMapping(read_yaml(path), path, "")
    name, pair = keys.text("study"), keys.text("pair")
    counted = _size(keys.take("counted"), path, "counted")
    sent = _size(keys.take("sent"), path, "sent")
    figures = _figures(keys.items("conditions"), path, "conditions")
    others = {
        key: _figures(keys.items(key) if keys.has(key) else [], path, key)
        for key in ("trained", "selected", "protected")
    }
    keys.finish()
    return PublishedStudy(name, pair, counted, sent, figures, **others)


def _figures(items: Sequence[object], path: Path, key: str) -> tuple[PublishedAccuracy, ...]:
    figures = tuple(_figure(item, path, f"{key}[{i}]") for i, item in enumerate(items))
    points = [figure.point for figure in figures]
    for i, each in enumerate(points):
        if each in points[:i]:
            raise LatentWireError(f"{path}: '{key}[{i}]' stands twice")
    return figures


def _size(values: object, path: Path, within: str) -> CacheSize:
    keys = StrictMapping(values, path, within)
    size = CacheSize(keys.count("layers"), keys.count("kv_heads"), keys.count("head_dim"))
    keys.finish()
    return size


def _figure(values: object, path: Path, within: str) -> PublishedAccuracy:
    keys = StrictMapping(values, path, within)
    figure = PublishedAccuracy(
        dataset=keys.text("dataset"),
        questions=keys.count("questions"),
        codec=keys.one_of("codec", CODECS),
        keep_ratio=keys.number("keep_ratio"),
        order=keys.one_of("order", tuple(orders())),
        accuracy=keys.number("accuracy"),
    )
    keys.finish()
    for key, value in (("keep_ratio", figure.keep_ratio), ("accuracy", figure.accuracy)):
        if not 0 <= value <= 1:
            raise LatentWireError(f"{path}: key '{within}.{key}' must be from 0 to 1, got {value}")
    return figure

"""What docs/adding_a_codec.md says works, as it stands there."""

import re
from pathlib import Path

import pytest
import torch

from c2c.cache import Geometry, KVCache
from latentwire.channel import registry
from latentwire.channel.layout import Layout
from latentwire.channel.packet import Header, decode, encode
from latentwire.channel.per_tensor import uniform
from latentwire.channel.symmetric import Symmetric

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "adding_a_codec.md").read_text(encoding="utf-8")
EVERY_PLACE = (
    *("latentwire/channel/registry.py", "latentwire/channel/codec_names.py", "WIRE.md"),
    *("codecs.md", "tests/wire_decoder.py", "tests/golden_packets.py"),
)


def test_the_page_names_every_place_that_the_tests_ask_for() -> None:
    steps = PAGE[: PAGE.index("The tests in")]
    assert [place for place in EVERY_PLACE if place not in steps] == []
    for path in re.findall(r"`((?:latentwire|tests)/[a-z_/]+\.py)`", PAGE):
        assert (ROOT / path).is_file(), path


def test_its_codec_of_other_bits_crosses_in_a_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    written = re.search(r'`(Symmetric\("int5".*?\))`', PAGE)
    assert written is not None
    made = eval(written[1], {"Symmetric": Symmetric})
    others = (registry.codec(name) for name in registry.NAMES if name != made.name)
    assert made.number not in {other.number for other in others}
    monkeypatch.setitem(registry.PER_TENSOR, made.name, uniform(made))
    monkeypatch.setitem(registry._BY_NUMBER, made.number, registry.PER_TENSOR[made.name])

    geometry = Geometry(layers=2, kv_heads=2, head_dim=5)
    drawn = torch.randn(4, 1, 2, 3, 5, generator=torch.Generator().manual_seed(0))
    sent = KVCache((drawn[0], drawn[1]), (drawn[2], drawn[3]))
    header = Header(uniform(made), bytes(8), Layout(geometry, (0, 1), (0, 1), (range(3),)))
    _, arrived = decode(encode(sent, header), geometry, bytes(8))
    ends = zip((*sent.keys, *sent.values), (*arrived.keys, *arrived.values), strict=True)
    for mine, theirs in ends:
        step = mine.abs().amax((-2, -1), keepdim=True) / 15
        assert ((theirs - mine).abs() <= step / 2 + 1e-6).all()

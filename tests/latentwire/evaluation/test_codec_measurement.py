"""What codecs do to caches: what they are all compared with is computed once."""

from collections.abc import Callable

import pytest

from c2c import sharer
from latentwire.evaluation.codec_measurement import (
    CodecMeasurement,
    example_packet,
    measure,
    undamaged,
)
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.spec.condition import Channel
from latentwire.tasks.question import Question

TIMES = ("encode_ms_mean", "decode_ms_mean")


def figures(found: CodecMeasurement) -> dict[str, object]:
    return {name: value for name, value in vars(found).items() if name not in TIMES}


def test_questions_are_read_once_for_all_codecs(
    pair: LoadedPair, questions: Callable[..., list[Question]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, codecs = questions([6, 9, 7]), [Channel(name) for name in ("bf16", "int4", "rotate2")]
    alone = [figures(measure(pair, codec, asked)) for codec in codecs]
    packets = [example_packet(pair, codec, asked) for codec in codecs]
    assert alone[0]["kl_nats_mean"] < alone[1]["kl_nats_mean"] < alone[2]["kl_nats_mean"]
    read, lengths = sharer.read, []

    def spy(model: object, token_ids: object, *options: object) -> object:
        lengths.append(token_ids.shape[1])
        return read(model, token_ids, *options)

    monkeypatch.setattr(sharer, "read", spy)
    look = undamaged(pair)
    assert [figures(measure(pair, codec, asked, look)) for codec in codecs] == alone
    assert [example_packet(pair, codec, asked, look) for codec in codecs] == packets
    assert sorted(lengths) == [6, 7, 9]

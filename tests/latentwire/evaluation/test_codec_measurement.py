"""What codecs do to caches: what they are all compared with is computed once."""

from collections.abc import Callable

import pytest
import torch

from c2c import sharer
from c2c.sections import Section
from latentwire.evaluation import codec_measurement, pipeline
from latentwire.evaluation.codec_measurement import (
    CodecMeasurement,
    measure,
    together,
    undamaged,
)
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.reading import sharers_text
from latentwire.spec.condition import Channel
from latentwire.tasks.question import Question

TIMES = ("encode_ms_mean", "decode_ms_mean")


def figures(found: CodecMeasurement) -> dict[str, object]:
    return {name: value for name, value in vars(found).items() if name not in TIMES}


def test_questions_are_read_once_for_all_codecs(
    pair: LoadedPair, questions: Callable[..., list[Question]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, codecs = questions([6, 9, 7]), [Channel(name) for name in ("bf16", "int4", "rotate2")]
    alone, packets = zip(*(measure(pair, codec, asked) for codec in codecs), strict=True)
    assert alone[0].kl_nats_mean < alone[1].kl_nats_mean < alone[2].kl_nats_mean
    read, lengths = sharer.read, []

    def spy(model: object, token_ids: object, *options: object) -> object:
        lengths.append(token_ids.shape[1])
        return read(model, token_ids, *options)

    monkeypatch.setattr(sharer, "read", spy)
    look = undamaged(pair)
    found, again = zip(*(measure(pair, codec, asked, look) for codec in codecs), strict=True)
    assert [*map(figures, found)] == [*map(figures, alone)] and again == packets
    assert sorted(lengths) == [6, 7, 9]


@pytest.mark.parametrize("codec", ["bf16", "int4", "rotate2", "planes2", "int8+zstd"])
def test_it_is_what_the_definition_gives(
    pair: LoadedPair,
    questions: Callable[..., list[Question]],
    monkeypatch: pytest.MonkeyPatch,
    codec: str,
) -> None:
    asked, channel = questions([6, 9, 7, 9, 12]), Channel(codec)
    monkeypatch.setattr(codec_measurement, "TOKENS_TOGETHER", 30)  # three parts
    assert [len(part) for part in together(asked)] == [3, 2]
    found, example = measure(pair, channel, asked)
    divergence, same, errors, powers, packets = 0.0, 0, [], [], []
    for question in asked:
        cache = pipeline.read_as_sharer(pair, sharers_text(pair.interface, question))
        packets.append(pipeline.send(pair, channel, question, question, "matched"))
        _, arrived = pair.endpoint.receive(
            packets[-1], len(question.token_ids), pair.dtype, pair.device
        )
        whole = [Section(1, 0, cache.tokens), Section(-1, cache.tokens, len(question.token_ids))]
        ids = torch.tensor([question.token_ids])
        true, lossy = (
            pair.interface.prefill(pair.receiver, ids, whole, sent).logits[0].log_softmax(-1)
            for sent in (cache, arrived)
        )
        divergence += float((true.exp() * (true - lossy)).sum()) / len(asked)
        same += int(true.argmax() == lossy.argmax())
        layer = pair.endpoint.key_layers[0]
        was, got = (each.keys[layer].double() for each in (cache, arrived))
        errors.append((was - got).square().sum())
        powers.append(was.square().sum())
    assert found.kl_nats_mean == pytest.approx(divergence, abs=1e-6)
    assert found.same_token_share == same / len(asked)
    assert found.key_error[layer] == pytest.approx(float((sum(errors) / sum(powers)) ** 0.5))
    assert found.wire_bytes_mean == sum(map(len, packets)) / len(asked) and example == packets[0]


def test_no_more_questions_are_kept_than_were_asked_for(
    pair: LoadedPair, questions: Callable[..., list[Question]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec_measurement, "MOST_KEPT", 4)
    asked, reads = tuple(questions([6, 9, 7, 8, 5])), []
    monkeypatch.setattr(codec_measurement, "_read", lambda pair, part: reads.append(part) or part)
    look = undamaged(pair)
    for part in (asked[:2], asked[2:4], asked[:2], asked[4:], asked[2:4], asked[:2]):
        assert look(part) == part
    assert [len(part) for part in reads] == [2, 2, 1, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_near_differs_by_rounding_alone(dtype: torch.dtype) -> None:
    x = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)).to(dtype)
    above = torch.nextafter(x, torch.full_like(x, torch.inf))  # the next number of the type
    assert codec_measurement._near(above, x)
    beyond = x.clone()
    beyond[1, 7] += 3 * torch.finfo(dtype).eps * x.abs().max()
    assert not codec_measurement._near(beyond, x)

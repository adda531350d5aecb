"""What is measured for calibrated codecs, and that they are used with it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from c2c import sharer
from latentwire.channel import rope
from latentwire.channel.calibration import from_bytes
from latentwire.errors import LatentWireError
from latentwire.evaluation import engine, pipeline
from latentwire.evaluation import fit_calibration as calibrating
from latentwire.evaluation.fit_calibration import calibrate
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question

MakeQuestions = Callable[..., list[Question]]
ABOUT = {"pair": "tiny", "pair_identity": "00" * 32, "dtype": "float64", "questions": []}


def with_calibration(pair: LoadedPair, questions: list[Question]) -> LoadedPair:
    found = from_bytes(calibrate(pair, questions, ABOUT), "it")
    return replace(pair, endpoint=replace(pair.endpoint, calibration=found))


def test_the_mean_is_of_keys_before_their_positions(
    pair: LoadedPair, questions: MakeQuestions
) -> None:
    asked = questions([9, 30, 17], seed=5)
    told: list[str] = []
    found = from_bytes(
        calibrate(pair, asked, ABOUT, lambda what, done, of: told.append(what)), "it"
    )
    fits = {"fitting keys", "fitting values", "fitting keys by layer", "fitting values by layer"}
    assert set(told) == {"reading", *fits}
    assert found.about["pair"] == "tiny"
    assert found.layers == {"key": pair.endpoint.key_layers, "value": pair.endpoint.value_layers}
    frequencies = rope.inverse_frequencies(pair.sharer)
    torch.testing.assert_close(found.inverse_frequencies.float(), frequencies)
    layer, head = pair.endpoint.key_layers[0], 1
    before = []
    for question in asked:
        cache = sharer.read(pair.sharer, torch.tensor([question.token_ids]))
        positions = torch.arange(cache.tokens)
        before.append(rope.undo(cache.keys[layer][0], positions, frequencies)[head])
    torch.testing.assert_close(found.key_mean[layer, head], torch.cat(before).mean(0))


@pytest.mark.parametrize("codec", ["turbo2", "kvtc1", "klt2", "turbo3+zstd"])
def test_engine_and_pipeline_agree_on_calibrated_codecs(
    precise_pair: LoadedPair, questions: MakeQuestions, short_answers: int, codec: str
) -> None:
    pair = with_calibration(precise_pair, questions([40] * 6, seed=9))
    assert pair.endpoint.calibration is not None
    asked = questions([12, 7, 12, 20])
    donors = [asked[2], asked[3], asked[0], asked[1]]
    conditions = [
        Condition("c2c", Channel(codec, ratio, order, pair.endpoint.calibration.hash), control)
        for ratio, order in ((1.0, "front"), (0.4, "back"))
        for control in ("matched", "deranged")
    ]
    records = engine.evaluate(pair, conditions, asked, donors, 3)
    lengths = set()
    for condition in conditions:
        for row, (question, donor) in enumerate(zip(asked, donors, strict=True)):
            expected = pipeline.evaluate(pair, condition, question, donor)
            assert records[condition][row] == expected
            lengths.add(expected.wire_bytes)
    assert len(lengths) > 2


def test_a_condition_of_another_calibration_is_refused(
    pair: LoadedPair, questions: MakeQuestions, short_answers: int
) -> None:
    asked = questions([8])
    condition = Condition("c2c", Channel("turbo2", calibration="ab" * 32), "matched")
    for endpoint in (pair, with_calibration(pair, questions([12, 15]))):
        with pytest.raises(LatentWireError, match="turbo2 is to use calibration abab"):
            pipeline.evaluate(endpoint, condition, asked[0], asked[0])


def test_large_sharers_are_fitted_to_fewer_tokens_and_components(
    pair: LoadedPair, questions: MakeQuestions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrating, "LARGE_FEATURES", 16)
    monkeypatch.setattr(calibrating, "LARGE_RANK", 4)
    found = from_bytes(calibrate(pair, questions([40, 40]), ABOUT), "it")
    assert all(tables.components <= 4 for tables in found.tables.values())
    assert all(tables.features > 16 for tables in found.tables.values())

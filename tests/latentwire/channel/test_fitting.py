"""A packet is never longer than its budget, and with one token more it would be."""

from collections.abc import Mapping

import pytest
from small_link import CALIBRATION, GEOMETRY, LINK, make_cache

from latentwire.channel.fitting import Tried, fit
from latentwire.channel.positions import Positions
from latentwire.channel.registry import EXAMPLES, NAMES, needs_calibration
from latentwire.channel.selectors.selector import Choose
from latentwire.spec.condition import Channel

BUDGETS = (0, 60, 100, 200, 400, 100_000)
TOKENS = (13, 1, 0, 9)


def scattered(tokens: int, most: int) -> Positions:
    """Many runs, that join as more tokens go: lengths are no line."""
    return Positions.of([5 * n % tokens for n in range(most)])


def choosing(*prompts: int) -> Choose:
    """`scattered` of messages of so many tokens."""

    def choose(most: Mapping[int, int | None]) -> list[Positions]:
        return [scattered(prompts[row], count or 0) for row, count in most.items()]

    return choose


@pytest.mark.parametrize("name", (*NAMES, *EXAMPLES))
def test_a_packet_fits_and_one_token_more_would_not(name: str) -> None:
    channel = Channel(name, calibration=CALIBRATION.hash if needs_calibration(name) else "")
    cache = make_cache(13, batch=4)
    for budget in BUDGETS:
        found = fit(LINK, channel, cache, choosing(*TOKENS), TOKENS, [budget] * 4)
        assert found[2] == Positions()
        alone = []
        for row, most in enumerate(TOKENS):
            own = cache.rows(row, row + 1)
            alone += fit(LINK, channel, own, choosing(most), [most], [budget])
            length = len(LINK.send(channel, own, found[row]))
            assert length <= budget
            count = found[row].count
            assert found[row] == scattered(most, count) and count <= most
            if count < most:
                assert len(LINK.send(channel, own, scattered(most, count + 1))) > budget
        assert alone == found  # whatever else is in the batch


def test_lengths_are_those_of_packets_and_need_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [Positions.of([0, 5, 6]), Positions(), Positions.of_layers([[1], [], [2]], range(4))]
    cache = make_cache(7, batch=3)
    for name in ("int4", "bf16+zstd", "kivi2", "int2/keys:int4"):
        channel = Channel(name)
        sent = [LINK.send(channel, cache.rows(n, n + 1), each) for n, each in enumerate(chosen)]
        assert LINK.packet_lengths(channel, cache, chosen) == list(map(len, sent))
    monkeypatch.setattr(type(LINK), "simulate_each", None)
    nothing = make_cache(0, batch=3, geometry=GEOMETRY)
    assert LINK.packet_lengths(Channel("int8"), nothing, chosen)[1] == 0


def test_budgets_share_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec that has to run for a length runs once for each message of a batch and choice."""
    channel, cache = Channel("bf16+zstd"), make_cache(13, batch=4)
    choices = choosing(*TOKENS)
    alone = [fit(LINK, channel, cache, choices, TOKENS, [budget] * 4) for budget in BUDGETS]
    asked: list[Positions] = []
    simulate = type(LINK).simulate_each

    def counted(self, channels, rows, chosen):
        asked.extend(chosen)
        return simulate(self, channels, rows, chosen)

    monkeypatch.setattr(type(LINK), "simulate_each", counted)
    tried: Tried = {}
    shared = [fit(LINK, channel, cache, choices, TOKENS, [budget] * 4, tried) for budget in BUDGETS]
    assert shared == alone
    assert len(asked) == len(tried)
    asked.clear()
    again = fit(LINK, channel, cache, choices, TOKENS, [BUDGETS[3]] * 4, tried)
    assert again == alone[3] and not asked


def test_few_packets_are_measured() -> None:
    """A budget is found in a few steps, not token by token."""
    asked = []

    def choose(most: Mapping[int, int | None]) -> list[Positions]:
        asked.append(most[0])
        return [Positions.of(range(most[0] or 0))]

    tokens = 4096
    for budget in (500, 2_000, 50_000, 90_000):
        asked.clear()
        (found,) = fit(LINK, Channel("int4"), make_cache(1), choose, [tokens], [budget])
        assert 0 < found.count < tokens and len(asked) <= 8

"""Sections merged in one pass are what the definition makes of them one after the other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import ARCHITECTURES, make_fuser, make_model, token_ids
from torch import Tensor

from c2c.cache import KVCache, from_transformers, geometry
from c2c.interface import Interface, Tokens
from c2c.merging_pass import MergingPass, begins_of
from c2c.pieces import AtOnce, Piece
from c2c.sections import Runs, runs_of, sections
from c2c.sharer import read
from c2c.slot_cache import ExtendPass, extend, new_slots, slot_attention

TOKENS = 30
ROOM = 3  # slots behind the prompt
# More than a sliding window holds, single tokens, neighbours of the pass's start and end, none.
RUNS: list[Runs] = [
    runs_of([2, 3, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 28]),
    runs_of(range(1, 29, 2)),
    runs_of([5, 6, 8]),
    runs_of([0, 27, 28]),
    (),
]


def ends(rows: list[Runs]) -> tuple[Tensor, Tensor]:
    """Starts and stops of each row's runs, filled up by some that lie behind."""
    most, behind = max(1, *map(len, rows), 1), range(99, 99)
    filled = [[*runs, *[behind] * (most - len(runs))] for runs in rows]
    starts, stops = (
        torch.tensor([[getattr(run, end) for run in runs] for runs in filled])
        for end in ("start", "stop")
    )
    return starts, stops


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("at_once", [AtOnce(1, 0), AtOnce(70, 0), AtOnce(1000, 0)])
def test_sections_of_all_rows_at_once(name: str, at_once: AtOnce) -> None:
    receiver, sharer = make_model(name).double(), make_model("qwen3", seed=3).double()
    fuser: Interface = make_fuser(sharer, receiver).double()
    ids = token_ids(len(RUNS), TOKENS)
    sent = read(sharer, ids)
    shape = geometry(receiver.config)
    slots = new_slots(shape, len(RUNS), TOKENS + ROOM, torch.float64, torch.device("cpu"))
    merge = fuser.batched()

    def view(
        piece: Piece, part: KVCache, positions: Tensor, visible: int, hidden: Tensor | None
    ) -> ExtendPass:
        rows = range(piece.start, piece.stop)
        places = [(n, t) for n in rows for run in RUNS[n] for t in run]
        row, position = torch.tensor(places or [(piece.start, 0)])[: len(places)].T

        def arrived(layer: int, kind: str) -> tuple[Tensor, Tokens]:
            tensor = getattr(sent, f"{kind}s")[layer][row, :, position]
            return tensor, Tokens(row - piece.start, position, row - piece.start)

        most = max(sum(map(len, RUNS[n])) for n in rows)
        begins = begins_of(*ends([RUNS[n] for n in rows]), positions)
        return MergingPass(
            part, positions, visible, hidden, begins, most,
            lambda layer: merge(layer, part, part, arrived, 1000),
        )  # fmt: skip

    with slot_attention(receiver), torch.inference_mode():
        extend(receiver, ids, [(0, TOKENS - 1)] * len(RUNS), slots, at_once, view=view)
    for row, runs in enumerate(RUNS):
        chosen = torch.tensor([t for run in runs for t in run], dtype=torch.long)
        received = sent.rows(row, row + 1).map(lambda x, at=chosen: x[:, :, at])
        found = fuser.prefill(receiver, ids[row : row + 1], sections(runs, TOKENS), received)
        wanted = from_transformers(found.cache).section(0, TOKENS - 1)
        ours = slots.rows(row, row + 1).section(0, TOKENS - 1)
        for one, other in zip(
            (*ours.keys, *ours.values), (*wanted.keys, *wanted.values), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(0, 12)), min_size=1, max_size=4), st.integers(0, 9))
def test_where_the_section_of_a_token_begins(chosen: list[set[int]], first: int) -> None:
    rows = [runs_of(tokens) for tokens in chosen]
    positions = torch.arange(first, first + 8).repeat(len(rows), 1)
    for runs, found in zip(rows, begins_of(*ends(rows), positions).tolist(), strict=True):
        for position, begin in zip(range(first, first + 8), found, strict=True):
            own = [run.start for run in runs if position in run]
            assert begin == (own[0] if own else position + 1)

"""Which chunks of a condition are finished, whoever computed them."""

from dataclasses import dataclass

from latentwire.errors import LatentWireError
from latentwire.tracking.runs import CHUNK, CONDITION, FINGERPRINT, LEVEL
from latentwire.tracking.store import Store


@dataclass(frozen=True)
class FinishedChunk:
    """A FINISHED chunk run: examples start to stop of a condition."""

    run_id: str
    fingerprint: str
    start: int
    stop: int


def finished_chunks(store: Store, condition_fingerprint: str) -> dict[str, FinishedChunk]:
    """Chunk fingerprint -> its finished run (the oldest, should there be several)."""
    chunks: dict[str, FinishedChunk] = {}
    for run in store.search(
        f"tags.`{CONDITION}` = '{condition_fingerprint}' and tags.`{LEVEL}` = 'chunk'"
        " and attributes.status = 'FINISHED'"
    ):
        fingerprint = run.data.tags[FINGERPRINT]
        start, stop = parse_chunk(run.data.tags[CHUNK])
        chunks.setdefault(fingerprint, FinishedChunk(run.info.run_id, fingerprint, start, stop))
    return chunks


def chunk_name(start: int, stop: int) -> str:
    """How a chunk is written in tags and names; examples start to stop - 1."""
    return f"{start:05d}-{stop:05d}"


def parse_chunk(name: str) -> tuple[int, int]:
    """What `chunk_name` wrote."""
    start, _, stop = name.partition("-")
    if not (start.isdigit() and stop.isdigit()):
        raise LatentWireError(f"a chunk run's tag {CHUNK} is {name!r}, not like 00000-00200")
    return int(start), int(stop)

"""What of a pair is still to be downloaded, and how much that is."""

from collections.abc import Sequence
from dataclasses import dataclass

from latentwire import hub
from latentwire.errors import NotCached
from latentwire.pairs.locate import bytes_to_download, locate, parts_of
from latentwire.pairs.pair import FileSource, Pair


@dataclass(frozen=True)
class Download:
    """One part of a pair, or a question set, that is not on this machine."""

    what: str
    size_bytes: int | None  # None: not known


def pair_downloads(pair: Pair, needed: bool = False) -> list[Download]:
    """The parts of a pair that a run would download first.

    Raises LatentWireError where one is missing that cannot be downloaded: a local path, or a part
    of the hub when that must not be asked or, where they are `needed` now, cannot be reached.
    """
    found = []
    sources: set[FileSource] = set()
    for part, source, kind in parts_of(pair):
        if source in sources:  # one model at both ends
            continue
        sources.add(source)
        try:
            locate(source, kind, download=False)
        except NotCached:
            if hub.is_offline() or (needed and not hub.answers()):
                locate(source, kind)  # has the sentence for this
            found.append(Download(part, bytes_to_download(source, kind)))
    return found


def known_bytes(downloads: Sequence[Download]) -> int:
    return sum(download.size_bytes or 0 for download in downloads)


def unknown(downloads: Sequence[Download]) -> list[str]:
    """The names of those of which no size is known."""
    return [download.what for download in downloads if download.size_bytes is None]


def describe_downloads(downloads: Sequence[Download]) -> str:
    """In words: "nothing", or how much of what."""
    if not downloads:
        return "nothing"
    parts = ", ".join(
        f"{d.what} {'of unknown size' if d.size_bytes is None else in_words(d.size_bytes)}"
        for d in downloads
    )
    total = in_words(known_bytes(downloads))
    if len(unknown(downloads)) == len(downloads):
        return parts
    return f"{'at least' if unknown(downloads) else 'about'} {total} ({parts})"


def in_words(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.1f} MB"

"""Questions made of passages alone: which words are left out of a sentence of the text? (Cloze: W.
L. Taylor, Journalism Quarterly 30, 1953; of names in texts, Hermann et al., NeurIPS 2015.)

Where a set's own kind of question is to be had on scored passages only, ways to send a passage are
chosen by these: as there, the answer is words of the passage, which nobody knows without it.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from latentwire.errors import LatentWireError
from latentwire.tasks.file_rows import as_mapping
from latentwire.tasks.rows import HubSplit, Row, RowFields

BLANK = "____"
_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")
_NAME = r"[A-Z][\w'-]*\w"
# A number, or names; neither begins the sentence.
_ANSWER = re.compile(rf"(?<=[\s(\"])(?:\d[\d,.]*\d|\d|{_NAME}(?: {_NAME})*)(?![\w-])")


@dataclass(frozen=True)
class BlanksOf(HubSplit):
    """Of each passage of a split one question, as a row of SQuAD's schema; the split's last passage
    first, since its first are what codecs are calibrated on. `expected` is of these questions."""

    @property
    def label(self) -> str:
        return f"development (blanks in the passages of {self.file.partition('/')[0]})"

    def read(self, data_dir: Path | None, download: bool = True) -> tuple[list[Row], str]:
        """See `Source`."""
        rows, place = super().read(data_dir, download)
        found: dict[str, Row] = {}
        for where, row in reversed(rows):
            try:
                passage = RowFields(as_mapping(row)).text("passage")
            except ValueError as error:
                raise LatentWireError(f"{where}: {error}") from None
            if passage not in found and (asked := blank_in(passage)):
                question, answer = asked
                told = {"context": passage, "question": question, "answers": {"text": [answer]}}
                found[passage] = where, {"id": f"blank:{len(found)}", **told}
        return list(found.values()), place


def blank_in(passage: str) -> tuple[str, str] | None:
    """A question on the passage, and its answer; None where no name and no number stands in it.
    Which of them is asked for, the passage's hash says: any part of it may hold the answer."""
    found = [
        (sentence, match)
        for sentence in _BETWEEN_SENTENCES.split(passage)
        for match in _ANSWER.finditer(sentence)
        if sentence.count(match[0]) == 1
    ]
    if not found:
        return None
    digest = hashlib.sha256(passage.encode()).digest()
    sentence, match = found[int.from_bytes(digest[:8], "big") % len(found)]
    asked = sentence[: match.start()] + BLANK + sentence[match.end() :]
    return f"Which words of the text are left out here ({BLANK})? {asked}", match[0]

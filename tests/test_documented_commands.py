"""Every command that README and the pages show exists, with the parameters that it names."""

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from tests_support import ROOT

from latentwire.milestones.registry import load_milestone
from latentwire.parameters import checked

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^[ ]*```bash\n(.*?)^[ ]*```", re.S | re.M)
HERE = re.compile(r"<<'(\w+)'\n.*?^\1$", re.S | re.M)
FILE = re.compile(r"\.(yaml|jsonl|csv)$")  # of the reader's own


def commands(page: Path) -> Iterator[list[str]]:
    for block in BLOCK.findall(page.read_text()):
        for line in HERE.sub("", block).replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"\w+=\S*", words[0]):  # settings of the environment
                words = words[1:]
            if words:
                yield words


def entry_points(words: list[str]) -> tuple[str, dict[str, str]] | None:
    """The milestone that a command starts, and its parameters."""
    if words[:3] == ["mlflow", "run", "."]:
        name = words[words.index("-e") + 1]
    elif Path(words[0]).name == "latentwire" and words[1] in ("run", "submit"):
        name = words[2]
    else:
        return None
    pairs = [word for flag, word in pairwise(words) if flag == "-P"]
    return name, dict(pair.split("=", 1) for pair in pairs)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_mlflow_is_asked_to_run_is_there(page: Path) -> None:
    for words in commands(page):
        found = entry_points(words)
        if not found or found[0].isupper():  # a word of the reader's own
            continue
        milestone = load_milestone(found[0])
        declared = {parameter.name: parameter for parameter in milestone.parameters}
        for name, value in found[1].items():
            assert name in declared, " ".join(words)
            if not (value.isupper() or FILE.search(value) or "$" in value):  # a variable's
                checked([declared[name]], {name: value})


def test_readme_is_short_and_its_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    assert len((ROOT / "README.md").read_text().splitlines()) < 170

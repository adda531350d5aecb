"""A pair in one line."""

from pathlib import Path

import pytest

from latentwire.errors import LatentWireError
from latentwire.pairs.load import PAIRS_DIR, load_pair, name_in_runs
from latentwire.pairs.pair import FileSource

DEMO = PAIRS_DIR / "demo"
LINE = f"receiver={DEMO}/receiver,sharer={DEMO}/sharer"


def test_folders_and_names_of_the_hub() -> None:
    pair = load_pair(f"{LINE}, fuser={DEMO}/fuser/final")
    known = load_pair("demo")
    assert (pair.receiver, pair.sharer, pair.fuser) == (known.receiver, known.sharer, known.fuser)
    assert pair.name == name_in_runs(LINE) == "receiver+sharer"
    assert pair.shared_tokenizer and not pair.datasets
    pair = load_pair("sharer=b/c,receiver=A,fuser=o/r/some/final,alignment=longest,name=mine")
    assert pair.receiver == FileSource(repo="A") and pair.sharer == FileSource(repo="b/c")
    assert pair.fuser == FileSource(repo="o/r", subfolder="some/final")
    assert (pair.name, pair.alignment, pair.shared_tokenizer) == ("mine", "longest", False)
    assert load_pair("receiver=A,sharer=A,interface=prefix").interface == "prefix"
    pair = load_pair("receiver=A,sharer=B,interface=prefix,alignment=off")
    assert not pair.alignment and not pair.shared_tokenizer


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("receiver=A", "it names no sharer"),
        ("sharer=A", "it names no receiver"),
        ("receiver=A,sharer=B,fusor=C", "'fusor' is not one of receiver, sharer, fuser"),
        ("receiver=A,sharer=", "'sharer' is not one of .* with a value"),
        ("receiver=A,B", "'B' is not one of"),
        ("receiver=A,receiver=B,sharer=C", "a key stands twice"),
        ("receiver=A,sharer=B,fuser=o/r/f,interface=prefix", "give fuser or interface"),
        ("receiver=A,sharer=B,alignment=no", "alignment is one of"),
        ("receiver=/not/there,sharer=B", "no such folder; give receiver=FOLDER, or receiver=OWNER"),
        ("receiver=A,sharer=B,fuser=none", "no such folder; give a folder that holds"),
    ],
)
def test_a_line_that_is_none_is_refused_in_one_sentence(line: str, said: str) -> None:
    with pytest.raises(LatentWireError, match=said) as refused:
        load_pair(line)
    assert "\n" not in str(refused.value)


def test_names_stay_and_files_are_read(tmp_path: Path) -> None:
    assert name_in_runs("gone") == "gone"
    (tmp_path / "p.yaml").write_text(
        "{name: mine, description: d, receiver: {repo: A}, sharer: {repo: B}, datasets: [arc_c],"
        " shared_tokenizer: true}"
    )
    assert name_in_runs(str(tmp_path / "p.yaml")) == "mine"

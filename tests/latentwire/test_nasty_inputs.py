"""Every parameter and every argument that names a file, with values that nobody should give: taken,
or refused in one harmless sentence."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from c2c.conformance import main as conformance
from latentwire.cli import main
from latentwire.errors import LatentWireError
from latentwire.milestones.registry import all_milestones
from latentwire.pairs.load import load_pair
from latentwire.parameters import Parameter, checked
from latentwire.tasks.registry import load_dataset

ESC = "\x1b[31m"
TEXTS = (
    *("", " ", " 5", "5 ", "-1", "+5", "1e3", "1_000", "９", "٣", "²", "0x10", "1e400", "nan"),
    *("inf", "-0", "1.5", "00", "5.", ".5", "1,", ",", "5,5", "a,b", "1" * 30, "1" * 400, "-"),
    *("9" * 5000, "~nosuch/x", "~", "x" * 300, "a/" * 3000, "a\0b", "a\udcffb", f"{ESC}red"),
    *("a\nb", "\u202eb", "it's", '"', "%s", "{0}", "$HOME", "`id`", "cuda:", "cuda:²", "5", "é"),
    *("cuda:99999", "x" * 7000, "auto", "true", "None", "int4", "../..", "/", "."),
    f"int4/last{'9' * 5000}:bf16",
)

NOT_TEXT = {
    "empty": b"",
    "blank": b"\r\n\r\n",
    "mark": b"\xef\xbb\xbf",
    "utf16": "name: x\r\n{}\r\n".encode("utf-16"),
    "utf16_without_mark": "{}\n".encode("utf-16-le"),
    "latin1": b"name: \xe9\n",
    "nul": b"name: a\0b\n",
    "deep": b"[" * 100_000,
    "deeper": b'{"a":' * 20_000,
    "digits": b"9" * 5_000,
    "huge_number": b'{"format": 1e400}',
    "half": b'{"id": "\\ud800"}',
    "twice": b'{"id": 1, "id": 2}',
    "escape": b'"\\e[31m": \x1b[31m\n',
    "zip": b"PK\x05\x06" + bytes(18),
    "random": bytes(range(256)) * 8,
    "alias": b"a: &a [*a, *a]\nb: *a\n",
    "scalar": b"17",
    "list": b"[1, 2]",
    "packet": b"LW" + bytes(200),
}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that are no file that anyone wants, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    (tmp_path / "files").mkdir()
    for name, data in NOT_TEXT.items():
        (tmp_path / "files" / name).write_bytes(data)
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    names = ["folder", "loop", "loop/x", "dangling", "pipe", "files/empty/below", "/dev/zero"]
    odd = ["~nosuch/x", "x" * 300, "a/" * 3000, "a\0b", "a\udcffb", f"{ESC}red\n", "", "none"]
    return [*odd, *names, *(f"files/{name}" for name in NOT_TEXT)]


def harmless(sentence: str, lines: int = 1) -> None:
    assert sentence.strip() and len(sentence) < 3000
    assert all(line.isprintable() for line in sentence.split("\n"))
    assert len(sentence.strip().split("\n")) <= lines, sentence


def _parameters() -> list[Parameter]:
    found = {}
    for milestone in all_milestones():
        for parameter in milestone.parameters:
            found[parameter.name, parameter.default, parameter.help] = parameter
    return [*found.values()]


@pytest.mark.parametrize("parameter", _parameters(), ids=lambda parameter: parameter.name)
def test_a_parameter_takes_a_value_or_says_why_not(parameter: Parameter, places: list[str]) -> None:
    for text in (*TEXTS, *places):
        try:
            checked([parameter], {parameter.name: text})
        except LatentWireError as error:
            harmless(str(error))
            assert str(error).startswith(f"{parameter.name}=")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("limit", " 5", 5),
        ("limit", "+5", 5),
        ("limit", "９", None),
        ("limit", "1_000", None),
        ("limit", "1" * 30, None),
        ("seed", str(2**32), None),
        ("device", "5", None),
        ("device", "cuda:²", None),
        ("margin_points", "1_0", None),
        ("margin_points", "5e-1", 0.5),
        ("keep_ratio", "٠,1", None),
    ],
)
def test_numbers_are_written_in_digits(name: str, text: str, value: object) -> None:
    parameter = next(found for found in _parameters() if found.name == name)
    if value is not None:
        assert checked([parameter], {name: text}) == {name: value}
    else:
        with pytest.raises(LatentWireError):
            checked([parameter], {name: text})


def test_a_pair_that_is_none_is_one_sentence(places: list[str]) -> None:
    for text in places:
        with pytest.raises(LatentWireError) as caught:
            load_pair(text if "/" in text or len(text) < 2 else f"./{text}")
        harmless(str(caught.value))


def test_a_data_folder_of_anything_is_one_sentence(tmp_path: Path, places: list[str]) -> None:
    (tmp_path / "openbookqa").mkdir()
    place = tmp_path / "openbookqa" / "test.jsonl"
    files = [f"files/{name}" for name in NOT_TEXT]
    assert set(files) < set(places)
    for text in ("folder", "loop", "dangling", "pipe", "/dev/zero", *files):
        place.unlink(missing_ok=True)
        place.symlink_to(tmp_path / text)
        with pytest.raises(LatentWireError) as caught:
            load_dataset("openbookqa", tmp_path)
        harmless(str(caught.value))


COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "packet": lambda text: ["packet", "--", text],
    "calibration": lambda text: ["calibration", "--", text],
    "claims": lambda text: ["claims", "--", text],
    "figures": lambda text: ["figures", "--output-dir", "new", "--", text],
    "figures into": lambda text: ["figures", "--output-dir", text, "--", "files/empty"],
    "import": lambda text: ["import", "--", text],
    "submit": lambda text: ["submit", "m2", "--dry-run", "--config", text],
    "submit what": lambda text: ["submit", "--dry-run", "--", text],
    "submit pair": lambda text: ["submit", "m2", "--dry-run", "-P", f"pair=./{text}"],
    "submit calibration": lambda text: ["submit", "m2", "--dry-run", "-P", f"data_dir={text}x"],
    "submit option": lambda text: ["submit", "m2", "--dry-run", f"--sbatch=--wra={text}"],
    "submit resource": lambda text: ["submit", "m2", "--dry-run", "--tasks", f"{text}x"],
    "conformance": lambda text: ["--", text],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_reads_a_file_or_says_why_not(
    command: str, places: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = conformance if command == "conformance" else main
    for text in places:
        assert run(COMMANDS[command](text)) == 2, text
        output = capsys.readouterr()
        lines = [line for line in output.err.split("\n") if not line.startswith("warning: ")]
        harmless("\n".join(lines).strip("\n"))
        assert output.err.count("error: ") == 1 and "Traceback" not in output.err

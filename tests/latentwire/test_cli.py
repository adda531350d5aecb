"""The command `latentwire`."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from calibrations import make_calibration

from c2c.cache import Geometry, KVCache
from latentwire import run_entry_point
from latentwire.channel.calibration import to_bytes
from latentwire.channel.layout import Layout
from latentwire.channel.packet import Header, encode
from latentwire.channel.registry import NAMES, codec
from latentwire.cli import main
from latentwire.listing import KINDS
from latentwire.milestones.registry import questions
from latentwire.pairs.load import pair_names

LAYOUT = Layout(Geometry(6, 2, 4), (0, 1, 2, 4), (5,), (range(3), range(7, 9)))


def write_packet(path: Path, name: str) -> int:
    calibration = make_calibration(LAYOUT.geometry, LAYOUT.key_layers, LAYOUT.value_layers)
    tensor = torch.randn(1, *LAYOUT.shape, generator=torch.Generator().manual_seed(0))
    cache = KVCache((tensor,) * 6, (tensor,) * 6)
    data = encode(cache, Header(codec(name, calibration), b"the pair", LAYOUT))
    path.write_bytes(data)
    return len(data)


def test_a_packet_is_printed_with_its_bytes_by_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    length = write_packet(tmp_path / "one", "int4/last2:bf16")
    assert main(["packet", str(tmp_path / "one")]) == 0
    printed = capsys.readouterr().out
    payload = 3 * (2 * 4 + 20) + 2 * 80  # int4: two scales and 40 codes; bf16: 40 numbers
    for words in (
        f"version 1, {length} bytes",
        b"the pair".hex(),
        "schedule of 3 int4, 2 bf16 (number 48)",
        "6 layers, 2 KV heads of 4 channels",
        "0-2, 4",
        "5: 0 to 2, 7 to 8",
        f"200, {8 * length / 200:.3f} bits each, all in",
        f"{length - 4 - payload - 4} header, 4 codec parameters, {payload} payload, 4 checksum",
    ):
        assert words in printed, printed


def test_what_a_calibration_says_of_itself_steers_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about: dict[str, object] = {
        "pair": "\x1b]0;owned\x07\u202e",
        "key_layers": [],
        "value_layers": [],
    }
    tensors = {
        "key_mean": torch.zeros(1, 1, 2),
        "inverse_frequencies": torch.ones(1, dtype=torch.float64),
    }
    (tmp_path / "\x1b[31mone").write_bytes(to_bytes(about, tensors))
    assert main(["calibration", str(tmp_path / "\x1b[31mone")]) == 0
    assert main(["packet", str(tmp_path / "\x1b[31mone")]) == 2
    printed = capsys.readouterr()
    assert r"pair: \x1b]0;owned\x07\u202e" in printed.out
    assert r"\x1b[31mone" in printed.err
    assert "\x1b" not in printed.out + printed.err


def test_calibrated_and_compressed_packets_need_no_calibration_to_be_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibration = make_calibration(LAYOUT.geometry, LAYOUT.key_layers, LAYOUT.value_layers)
    for name, words in (
        ("turbo2+zstd", "bytes before its lossless stage"),
        ("kvtc1", "kvtc1 (number 61)"),
    ):
        write_packet(tmp_path / "one", name)
        assert main(["packet", str(tmp_path / "one")]) == 0
        printed = capsys.readouterr().out
        assert f"calibration {calibration.digest.hex()}" in printed
        assert words in printed


def test_what_is_no_packet_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").write_bytes(b"something else, and long enough")
    for command, name, words in (
        ("packet", "missing", "cannot be read: No such file"),
        ("packet", "other", "do not start like a packet"),
        ("calibration", "other", "is no calibration file"),
    ):
        assert main([command, str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and words in error and error.count("\n") == 1


def test_what_was_typed_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for typed in (["packet", "a", "\x1b[31mb"], ["--\x1b]0;x\x07"], ["export", "a", "--\x1b[2J"]):
        with pytest.raises(SystemExit) as ended:
            main(typed)
        assert ended.value.code == 2 and "\x1b" not in capsys.readouterr().err


def test_a_calibration_says_what_it_was_made_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from latentwire.channel.calibration import to_bytes

    found = make_calibration(LAYOUT.geometry, (), ())
    parts = {"key_mean": found.key_mean, "inverse_frequencies": found.inverse_frequencies}
    (tmp_path / "file").write_bytes(to_bytes(found.about, parts))
    assert main(["calibration", str(tmp_path / "file")]) == 0
    printed = capsys.readouterr().out
    assert f"sha256: {found.hash}" in printed and "pair: tests" in printed


def test_lists_are_tables_for_people_and_json_for_scripts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = {}
    for kind in KINDS:
        assert main(["list", kind]) == 0
        table = capsys.readouterr().out
        assert all(0 < len(line) <= 100 for line in table.splitlines())
        assert main(["list", kind, "--json"]) == 0
        entries = json.loads(capsys.readouterr().out)
        assert all(entry["about"] and entry["name"] in table for entry in entries)
        found[kind] = [entry["name"] for entry in entries]
    assert found["pairs"] == list(pair_names())
    assert found["codecs"] == list(NAMES)
    assert found["milestones"] == list(questions())
    assert {"matched", "deranged"} <= set(found["controls"])
    assert {"front", "oracle_delta"} <= set(found["selectors"])


def test_a_list_of_nothing_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 2
    assert capsys.readouterr().err == (
        "error: list what? pairs, codecs, tasks, selectors, controls, milestones: latentwire list"
        " pairs\n"
    )


def test_a_milestones_help_tells_its_parameters_from_the_commands_options(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["run", "m4", "--help"])
    parameters, _, others = capsys.readouterr().out.partition("options of the command itself:\n")
    assert "--margin-points" in parameters and "--experiment-name" in others


def test_a_command_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    for typed, meant in ((["lst"], "list"), (["list", "codec"], "codecs")):
        with pytest.raises(SystemExit, match="2"):
            main(typed)
        assert capsys.readouterr().err.endswith(f" (did you mean {meant}?)\n")


def test_run_refuses_what_a_milestone_does_not_take(capsys: pytest.CaptureFixture[str]) -> None:
    for typed, sentence in (
        (["m2", "-P", "kvbits=4"], "m2 has no parameter 'kvbits'"),
        (["m2", "-P", "kv_bits"], "parameter 'kv_bits': must be name=value"),
        (["m2", "-P", "kv_bits=4", "-P", "kv_bits=8"], "parameter kv_bits is given twice"),
        (["m2", "-P", "kv_bits=five"], "kv_bits=five: must be one of"),
        (["mm"], "unknown entry point 'mm'"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["run", *typed])
        error = capsys.readouterr().err
        assert error.startswith(f"error: {sentence}") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("list ", {"pairs", "codecs"}),
        ("run m", {"m2", "main"}),
        ("run m2 -P kv", {"kv_bits="}),
        ("run m2 -P codec=int8,kiv", {"int8,kivi4", "int8,kivi2"}),
        ("submit m4 -P pair=demo_", {"demo_self"}),
    ],
)
def test_a_shell_completes_it(line: str, wanted: set[str], tmp_path: Path) -> None:
    pytest.importorskip("argcomplete", reason="argcomplete is not installed: an extra")
    typed, found = f"latentwire {line}", tmp_path / "found"
    found.touch()
    asked = {
        "_ARGCOMPLETE": "1",
        "COMP_LINE": typed,
        "COMP_POINT": str(len(typed)),
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(found),
        "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n=:",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-c", "from latentwire.cli import main; main()"]
    subprocess.run(command, env=os.environ | asked, check=True)
    completed = set(found.read_text().replace(" \n", "\n").strip().split("\n"))
    assert wanted <= {text.strip() for text in completed}


def test_what_a_milestone_logs_is_shown_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def milestone(*_: object) -> None:
        run_entry_point._quiet()
        logging.getLogger("latentwire").warning("something is odd")

    log = logging.getLogger("latentwire")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(run_entry_point, "main", milestone)
    assert main(["run", "m2"]) == 0
    assert capsys.readouterr().err.count("something is odd") == 1

"""The published vectors pass, and what deviates from them does not."""

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from c2c.conformance import Outcome, main

PROMPTS = 3


def cut(
    shared_dir: Path, folder: Path, conditions: tuple[str, ...], prompts: int = PROMPTS
) -> Path:
    """The vectors' folder with some conditions and the first prompts only."""
    source = shared_dir / "compat"
    shutil.copytree(source, folder)
    cases = json.loads((source / "cases.json").read_text())
    cases["prompts"] = cases["prompts"][:prompts]
    cases["conditions"] = [c for c in cases["conditions"] if c["name"] in conditions]
    assert len(cases["conditions"]) == len(conditions)
    for condition in cases["conditions"]:
        condition["cases"] = condition["cases"][:prompts]
        condition["caches"] = [index for index in condition["caches"] if index < prompts]
    (folder / "cases.json").write_text(json.dumps(cases))
    return folder


@pytest.fixture
def vectors(shared_dir: Path, tmp_path: Path) -> Path:
    """One fused condition over three prompts: quick to run, and to be broken by a test."""
    return cut(shared_dir, tmp_path / "vectors", ("fp_p1.0",))


def alter(folder: Path, name: str, change: Any) -> None:
    path = folder / "expected.safetensors"
    tensors = load_file(path)
    tensors[name] = change(tensors[name])
    save_file(tensors, path)


@pytest.mark.slow
def test_all_conditions_pass(shared_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(shared_dir / "compat")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "42 passed, 0 failed"
    assert len(lines) == 43
    assert all(line.startswith("pass ") for line in lines[:-1])
    assert all("tokens equal (12/12)" in line for line in lines[:-1])
    cases = json.loads((shared_dir / "compat" / "cases.json").read_text())
    assert [line.split()[1] for line in lines[:-1]] == [c["name"] for c in cases["conditions"]]


def test_the_exit_status_tells(
    vectors: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `python -m c2c.conformance` ends."""
    alter(vectors, "logits/fp_p1.0", torch.zeros_like)
    monkeypatch.setattr("sys.argv", ["conformance", str(vectors)])
    monkeypatch.delitem(sys.modules, "c2c.conformance")
    with pytest.raises(SystemExit, match=r"^1$"):
        runpy.run_module("c2c.conformance", run_name="__main__")
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 1 failed"


def test_other_logits_fail(vectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def shift(logits: torch.Tensor) -> torch.Tensor:
        logits[:, 100] += 2e-3
        return logits

    alter(vectors, "logits/fp_p1.0", shift)
    assert main([str(vectors)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("FAIL  fp_p1.0")
    assert "largest difference 2.0e-03" in out
    assert out.endswith("0 passed, 1 failed\n")


def test_logits_that_are_no_numbers_fail(vectors: Path) -> None:
    alter(vectors, "logits/fp_p1.0", lambda logits: torch.full_like(logits, torch.nan))
    assert main([str(vectors)]) == 1


def test_other_tokens_fail(vectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = vectors / "cases.json"
    cases = json.loads(path.read_text())
    cases["conditions"][0]["cases"][2]["generated"][-1] += 1
    path.write_text(json.dumps(cases))
    assert main([str(vectors)]) == 1
    assert "tokens not equal (2/3)" in capsys.readouterr().out


def test_other_sections_fail(vectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = vectors / "cases.json"
    cases = json.loads(path.read_text())
    cases["conditions"][0]["cases"][1]["sections"] = [[1, 7], [-1, 2]]
    path.write_text(json.dumps(cases))
    assert main([str(vectors)]) == 1
    assert (
        "prompt 1: sections [[1, 8], [-1, 1]], expected [[1, 7], [-1, 2]]"
        in capsys.readouterr().out
    )


def test_other_selected_tokens_fail(
    shared_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cut(shared_dir, tmp_path / "vectors", ("sel_vnorm_topk_0.5_int8",))
    path = folder / "cases.json"
    cases = json.loads(path.read_text())
    chosen = cases["conditions"][0]["cases"][0]["selected"][2]
    chosen[0] = next(token for token in range(99) if token not in chosen)
    path.write_text(json.dumps(cases))
    assert main([str(folder)]) == 1
    assert "prompt 0: other tokens selected in layers [2]" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["key_proj_out.weight", "value_gate_logit", "key_in.bias"])
def test_an_altered_fuser_fails(vectors: Path, name: str) -> None:
    path = vectors / "fuser" / "final" / "projector_2.pt"
    state = torch.load(path, weights_only=True)
    state[name] = -state[name]
    torch.save(state, path)
    assert main([str(vectors)]) == 1


def test_another_layer_map_fails(vectors: Path) -> None:
    path = vectors / "fuser" / "final" / "projector_config.json"
    content = json.loads(path.read_text())
    content["0"]["1"]["2"] = [[0, 2]]
    path.write_text(json.dumps(content))
    assert main([str(vectors)]) == 1


def test_another_axis_of_scales_fails(shared_dir: Path, tmp_path: Path) -> None:
    folder = cut(shared_dir, tmp_path / "vectors", ("int4_layer_p1.0",))
    path = folder / "cases.json"
    cases = json.loads(path.read_text())
    cases["conditions"][0]["quant"]["axis"] = "head"
    path.write_text(json.dumps(cases))
    assert main([str(folder)]) == 1


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda folder: shutil.rmtree(folder), "is not a folder of test vectors"),
        (lambda folder: (folder / "cases.json").write_text("{"), "is not a folder of test vectors"),
        (
            lambda folder: (folder / "expected.safetensors").write_bytes(b"x"),
            "not a folder of test",
        ),
        (lambda folder: (folder / "fuser" / "final" / "projector_4.pt").unlink(), "4 projectors"),
        (lambda folder: shutil.rmtree(folder / "sharer"), "does not hold a model"),
    ],
)
def test_a_broken_folder_ends_in_one_sentence(
    vectors: Path, capsys: pytest.CaptureFixture[str], break_it: Any, words: str
) -> None:
    break_it(vectors)
    assert main([str(vectors)]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: ") and words in output.err
    assert "passed" not in output.out


def test_an_unknown_format_and_no_conditions_do_not_pass(vectors: Path) -> None:
    path = vectors / "cases.json"
    cases = json.loads(path.read_text())
    path.write_text(json.dumps({**cases, "conditions": []}))
    assert main([str(vectors)]) == 1
    path.write_text(json.dumps({**cases, "format": 2}))
    assert main([str(vectors)]) == 2


@pytest.mark.parametrize(
    ("differences", "passes"),
    [
        ([1e-5] * 12, True),
        ([1e-4] * 12, True),
        ([1e-5] * 10 + [0.05, 0.04], True),
        ([1e-5] * 11 + [0.051], False),
        ([1e-5] * 9 + [2e-4] * 3, False),
        ([1e-5] * 5 + [2e-4] * 7, False),
        ([1e-5] * 11 + [float("nan")], False),
    ],
)
def test_the_tolerance_is_the_one_that_the_vectors_state(
    differences: list[float], passes: bool
) -> None:
    outcome = Outcome("x", differences, 12, 12, 0.0, "")
    assert outcome.passed == passes
    assert not Outcome("x", differences, 11, 12, 0.0, "").passed
    assert not Outcome("x", differences, 12, 12, 0.0, "other sections").passed

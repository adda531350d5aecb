"""`latentwire claims` against a tracking store of synthetic answers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from studies import write_condition

from latentwire.analysis.curve import ConditionResult
from latentwire.analysis.noninferiority import difference_interval
from latentwire.analysis.stats import PairedOutcomes
from latentwire.cli import main
from latentwire.strict_json import parse_json
from latentwire.tracking.store import open_store

Make = Callable[..., ConditionResult]
FIRST, SECOND = {"codec": "int8"}, {"codec": "bf16"}
CLAIMS = [
    # On the made-up answers int8 has 60 questions more and 20 fewer than bf16, of 600.
    {"text": "better", "kind": "superior", "first": FIRST, "second": SECOND},
    {"text": "worse", "kind": "superior", "first": SECOND, "second": FIRST},
    {
        "text": "better by six",
        "kind": "superior",
        "first": FIRST,
        "second": SECOND,
        "margin_points": 6,
    },
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, condition: Make) -> Iterator[Path]:
    """A folder whose store holds answers of the pair `demo` on openbookqa."""
    folder = tmp_path_factory.mktemp("claims")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.chdir(folder)
        store = open_store("tests")
        wrong = "BCD" * 100
        first = "A" * 360 + wrong[:20] + wrong[:220]
        second = "A" * 300 + wrong[:60] + "A" * 20 + wrong[:220]
        for identity, swapped in (("old", True), ("new", False)):
            for letters, codec in ((first, "int8"), (second, "bf16")):
                other = {"int8": "bf16", "bf16": "int8"}[codec] if swapped else codec
                write_condition(
                    store, condition(letters, codec=other, dataset="openbookqa"), identity
                )
        yield folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.chdir(folder)


def written(folder: Path, **changes: object) -> str:
    path = folder / "mine.yaml"
    claims = [{"dataset": "openbookqa", **claim} for claim in CLAIMS]
    path.write_text(yaml.safe_dump({"claims": claims, **changes}), encoding="utf-8")
    return str(path)


def test_every_verdict_is_printed_with_its_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["claims", written(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mine.yaml, demo"
    # Answers of the older identity, of which the opposite is true, do not count.
    verdicts = [line for line in lines if line[:1].isupper()]
    assert verdicts == ["SUPPORTED  better", "REFUTED    worse", "UNDECIDED  better by six"]
    low, high = difference_interval(PairedOutcomes(300, 60, 20, 220))
    interval = f"95 % [{100 * low:+.2f}, {100 * high:+.2f}]"
    assert lines[4].startswith(f"    n 600 of 600, difference +6.67 points, {interval}")
    assert lines[-1] == "3 claims: 1 supported, 1 refuted, 1 undecided"


def test_json_holds_the_same_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", written(tmp_path), "--json"]) == 0
    (told,) = parse_json(capsys.readouterr().out)  # which takes no NaN
    assert (told["file"], told["pair"], told["source"]) == ("mine.yaml", "demo", "local")
    verdicts = {claim["text"]: claim["verdict"] for claim in told["claims"]}
    assert verdicts == {"better": "supported", "worse": "refuted", "better by six": "undecided"}
    better, _, by_six = told["claims"]
    low, high = difference_interval(PairedOutcomes(300, 60, 20, 220))
    assert better["difference"] == pytest.approx(40 / 600)
    assert (better["difference_low"], better["difference_high"]) == (low, high)
    assert (better["only_first"], better["only_second"], better["examples"]) == (60, 20, 600)
    assert better["p"] <= better["p_holm"] < 0.05 and by_six["margin"] == 0.06 and by_six["notes"]
    assert main(["claims", "--json"]) == 0
    claims = [claim for file in parse_json(capsys.readouterr().out) for claim in file["claims"]]
    unknown = [claim for claim in claims if not claim["examples"]]
    assert unknown and len(unknown) < len(claims)
    assert all(claim["difference"] is None and claim["p"] is None for claim in unknown)


def test_without_a_file_the_milestones_claims_are_judged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["claims"]) == 0
    printed = capsys.readouterr().out
    headings = [line for line in printed.splitlines() if line.endswith(", demo")]
    judged = ("m0", "m10", "m13", "m2", "m3", "m6", "m8", "m9")  # m5's are of trainings
    assert headings == [f"{name}.yaml, demo" for name in judged]
    assert "With int8, no accuracy is lost against 16 bits." in printed
    assert "There are no answers of receiver alone." in printed


def test_claims_of_another_pair_are_not_judged_for_the_one_that_is_asked_for(
    condition: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    store = open_store("tests")
    answers = condition("AB", codec="bf16", dataset="demo_facts")  # of demo, as demo.yaml asks
    write_condition(store, answers, "new")
    assert main(["claims", "--pair", "A+B"]) == 2
    error = capsys.readouterr().err
    assert "no finished local answers of A+B on arc_c, " in error and "demo.yaml" not in error


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({"colour": 1}, [], "mine.yaml: unknown key 'colour'"),
        ({"claims": []}, [], "key 'claims' must be a list with at least one entry"),
        ({}, ["--pair", "another"], "no finished local answers of another on openbookqa, which"),
        ({}, ["--pair", "it's"], "no finished local answers of it's on openbookqa, which"),
        ({}, ["--source", "published"], "latentwire run published -P reference_dir=DIR (docs/pub"),
        ({"pair": "demo"}, ["--pair", "A+B"], "mine.yaml is about demo, not A+B"),
        ({"pair": "another"}, [], "no finished local answers"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    options: list[str],
    words: str,
) -> None:
    assert main(["claims", written(tmp_path, **changes), *options]) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert captured.out == "" and len(errors) == 1 and words in errors[0]
    assert "Traceback" not in captured.err


def test_a_missing_file_and_a_damaged_store_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["claims", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: cannot be read (No such file" in capsys.readouterr().err
    (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert main(["claims", written(tmp_path)]) == 2
    errors = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert len(errors) == 1 and "tracking store" in errors[0]

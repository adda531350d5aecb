import pandas as pd
import pytest

from latentwire.analysis.curve import build_curve, with_hashes
from latentwire.analysis.provenance import described, hashes_note, public_uri, run_url


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://server:5000", "http://server:5000/#/experiments/3/runs/abc"),
        ("https://me:secret@host/mlflow/", "https://host/mlflow/#/experiments/3/runs/abc"),
        *(
            (uri, "http://127.0.0.1:5000/#/experiments/3/runs/abc")  # `mlflow ui`, there
            for uri in (
                *("sqlite:////home/someone/mlflow.db", "postgresql://me:secret@host/db"),
                *("javascript:alert(1)", "databricks", "mlruns"),
            )
        ),
    ],
)
def test_links_go_to_servers_and_hold_no_password(uri: str, expected: str) -> None:
    assert run_url(uri, "3", "abc") == expected
    assert (public_uri(uri) is None) == ("127.0.0.1" in expected)
    assert "secret" not in (public_uri(uri) or "")


def test_what_a_run_does_not_say_is_empty() -> None:
    empty = described({}, {}, {})
    assert empty == {"device": "", "dtype": "", "gpus": (), "commit": "", "fuser_hash": None}
    full = described(
        {"device": "cuda", "dtype": "bfloat16"},
        {"gpus": [{"name": "H100"}, {"name": "H100"}], "git": {"commit": "f00"}},
        {"identity": {"fuser": "sha256:beef"}},
    )
    assert full["gpus"] == ("H100", "H100")
    assert (full["device"], full["dtype"]) == ("cuda", "bfloat16")
    assert (full["commit"], full["fuser_hash"]) == ("f00", "beef")


def test_hashes_go_to_their_rows_and_are_shortened(condition) -> None:  # type: ignore[no-untyped-def]
    frame = build_curve([condition("AB"), condition("AB", source="published")])
    assert frame["fuser_hash"].isna().all() and frame["dataset_hash"].isna().all()
    assert hashes_note(frame) == ""
    filled = with_hashes(
        frame, {("demo", "local"): "f" * 64}, {("demo", "set", "published"): "0123456789abcdef"}
    )
    rows = filled.set_index("source")
    assert rows.loc["local", "fuser_hash"] == "f" * 64
    assert pd.isna(rows.loc["local", "dataset_hash"])
    assert rows.loc["published", "dataset_hash"] == "0123456789abcdef"
    assert hashes_note(filled) == "fuser ffffffffff, questions 0123456789"

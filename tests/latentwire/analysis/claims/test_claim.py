"""Claims as files: the milestones' own, and what a malformed one is told."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from latentwire.analysis.claims.claim import (
    SHIPPED_DIR,
    Claim,
    ClaimFile,
    load_claims,
    shipped_claims,
)
from latentwire.errors import LatentWireError
from latentwire.pairs.load import load_pair
from latentwire.spec.condition import Channel, Condition

GOOD: dict[str, Any] = {
    "text": "int8 loses nothing",
    "dataset": "arc_c",
    "kind": "non_inferior",
    "first": {"codec": "int8"},
    "second": {"codec": "bf16"},
}
OF_M5 = {"codec": "int8", "trained": "int8"}
REMOVED = object()


def written(folder: Path, values: object) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def changed(key: str, value: object) -> dict[str, Any]:
    """A file with GOOD as its only claim, in which a key, or a dotted one, has another value."""
    claim = {name: dict(v) if isinstance(v, dict) else v for name, v in GOOD.items()}
    first, _, second = key.partition(".")
    where = claim[first] if second else claim
    where[second or first] = value
    if value is REMOVED:
        del where[second or first]
    return {"claims": [claim]}


def test_a_claim_says_its_conditions(tmp_path: Path) -> None:
    back = {
        "text": "the back is worth more",
        "dataset": "openbookqa",
        "kind": "superior",
        "first": {"codec": "kvtc1", "keep_ratio": 0.5, "order": "back", "calibration": "ab12"},
        "second": {"codec": "int8", "control": "deranged"},
        "margin_points": 2,
    }
    alone = {**GOOD, "text": "alike", "kind": "equivalent", "first": "receiver", "second": "sharer"}
    found = load_claims(written(tmp_path, {"pair": "demo", "claims": [back, alone, GOOD]}))
    assert (found.name, found.pair) == ("mine.yaml", "demo")
    first, second, third = found.claims
    assert first == Claim(
        text="the back is worth more",
        dataset="openbookqa",
        kind="superior",
        margin_points=2,
        first=Condition("c2c", Channel("kvtc1", 0.5, "back", "ab12"), "matched"),
        second=Condition("c2c", Channel("int8"), "deranged"),
    )
    assert (second.first, second.second) == (Condition("receiver"), Condition("sharer"))
    assert (second.kind, second.margin_points, second.margin) == ("equivalent", 1, 0.01)
    assert (third.kind, third.margin_points) == ("non_inferior", 1)
    assert load_claims(written(tmp_path, {"claims": [{**GOOD, "kind": "superior"}]})) == ClaimFile(
        "mine.yaml",
        None,
        (
            Claim(
                GOOD["text"],
                "arc_c",
                "superior",
                0.0,
                Condition("c2c", Channel("int8"), "matched"),
                Condition("c2c", Channel("bf16"), "matched"),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "the file must hold keys and values, got nothing"),
        ([GOOD], "the file must hold keys and values, got list"),
        ({}, "key 'claims' is missing"),
        ({"claims": []}, "key 'claims' must be a list with at least one entry, got list []"),
        ({"claims": GOOD}, "key 'claims' must be a list"),
        ({"claims": ["int8 is fine"]}, "'claims[1]' must hold keys and values, got str"),
        ({"claims": [GOOD], "colour": 1}, "unknown key 'colour'"),
        ({"claims": [GOOD], "pair": 3}, "key 'pair' must be text, got int 3"),
        ({"claims": [GOOD, GOOD]}, "the claim 'int8 loses nothing' stands twice for arc_c"),
        (changed("colour", 1), "unknown key 'claims[1].colour'"),
        (changed("first.colour", 1), "unknown key 'claims[1].first.colour'"),
        (changed("text", " "), "key 'claims[1].text' must be text"),
        (changed("dataset", "arc"), "key 'claims[1].dataset' must be one of openbookqa, arc_c"),
        (changed("kind", "better"), "key 'claims[1].kind' must be one of superior, non_inferior"),
        (changed("kind", []), "key 'claims[1].kind' must be one of superior"),
        (changed("first", "teacher"), "'claims[1].first' must be receiver, sharer, or keys"),
        (changed("first", {}), "key 'claims[1].first.codec' is missing"),
        (changed("first.codec", "int9"), "'claims[1].first': codec 'int9' is unknown"),
        (changed("first.keep_ratio", "half"), "key 'claims[1].first.keep_ratio' must be a number"),
        (changed("first.keep_ratio", 1.5), "'claims[1].first': keep_ratio must be between 0 and 1"),
        (changed("first.order", "ends"), "'claims[1].first': order must be one of front, back"),
        (changed("first.control", "shuffled"), "key 'claims[1].first.control' must be one of"),
        (changed("first.calibration", "ab"), "'claims[1].first': codec int8 takes no calibration"),
        (changed("second", {"codec": "int8"}), "'claims[1]' compares a condition with itself"),
        (
            changed("margin_points", True),
            "key 'claims[1].margin_points' must be a number, got bool",
        ),
        (changed("margin_points", float("nan")), "key 'claims[1].margin_points' must be a number"),
        (changed("margin_points", 0), "key 'claims[1].margin_points' must be a number of percent"),
        (changed("margin_points", -1), "key 'claims[1].margin_points' must be a number of percent"),
        (
            changed("margin_points", 100),
            "key 'claims[1].margin_points' must be a number of percent",
        ),
        (changed("first.trained", "int9"), "'claims[1].first': codec 'int9' is unknown"),
        (changed("first.trained", "int8"), "'claims[1]': give 'trained' on both sides, or on none"),
        (
            {"claims": [GOOD, {**GOOD, "text": "x", **dict.fromkeys(("first", "second"), OF_M5)}]},
            "'claims[2]' compares a condition with itself",
        ),
        (
            {
                "claims": [
                    GOOD,
                    {**GOOD, "first": OF_M5, "second": {**OF_M5, "trained": "16bit"}, "text": "x"},
                ]
            },
            "give 'trained' in all claims, or in none",
        ),
        *((changed(name, REMOVED), f"key 'claims[1].{name}' is missing") for name in GOOD),
    ],
)
def test_a_malformed_file_is_told_its_key(tmp_path: Path, values: object, message: str) -> None:
    path = written(tmp_path, values)
    with pytest.raises(LatentWireError) as caught:
        load_claims(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"claims: [", "not YAML"),
        (b"claims: 1\nclaims: 2\n", "key 'claims' stands twice"),
        (b"\xff", "not UTF-8"),
        (b"[" * 5000, "not YAML"),
    ],
)
def test_what_is_not_yaml_is_named(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(text)
    with pytest.raises(LatentWireError, match=message):
        load_claims(path)
    with pytest.raises(LatentWireError, match="cannot be read"):
        load_claims(tmp_path / "none.yaml")


yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values),
    max_leaves=5,
)


@given(st.sampled_from([*GOOD, "margin_points", "first.codec", "first.order"]), yaml_values)
def test_any_value_is_taken_or_explained(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    path = written(tmp_path_factory.getbasetemp(), changed(key, value))
    try:
        load_claims(path)
    except LatentWireError as error:
        assert str(error).startswith(f"{path}: ")


def test_the_milestones_claims_come_with_the_package() -> None:
    files = {file.name: file for file in shipped_claims()}
    assert {"m0.yaml", "m2.yaml", "m3.yaml", "m5.yaml", "m8.yaml", "m9.yaml", "demo.yaml"} <= set(
        files
    )
    for file in files.values():
        known = load_pair(file.pair or "qwen3_0.6b+qwen2.5_0.5b").datasets
        assert {claim.dataset for claim in file.claims} == set(known)
    project = Path(__file__).parents[4] / "pyproject.toml"
    patterns = tomllib.loads(project.read_text())["tool"]["setuptools"]["package-data"][
        "latentwire"
    ]
    package = SHIPPED_DIR.parents[1]
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    assert set(SHIPPED_DIR.glob("*.yaml")) <= shipped

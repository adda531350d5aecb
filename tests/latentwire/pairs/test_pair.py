"""Pairs as files: the known ones, and what a malformed one is told."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from latentwire.errors import LatentWireError
from latentwire.pairs.load import PAIRS_DIR, choose_pair, load_pair, pair_names
from latentwire.pairs.pair import FileSource, Pair, parse_pair, require_alignment

# Receiver, sharer and fuser folder, as the list in the README of github.com/thu-nics/C2C has them.
PUBLISHED = {
    "qwen3_0.6b+qwen2.5_0.5b": (
        "Qwen/Qwen3-0.6B",
        "Qwen/Qwen2.5-0.5B-Instruct",
        "qwen3_0.6b+qwen2.5_0.5b_Fuser/final",
    ),
    "qwen3_0.6b+llama3.2_1b": (
        "Qwen/Qwen3-0.6B",
        "meta-llama/Llama-3.2-1B-Instruct",
        "qwen3_0.6b+llam3.2_1b_Fuser/final",
    ),
    "qwen3_0.6b+qwen2.5_1.5b_math": (
        "Qwen/Qwen3-0.6B",
        "Qwen/Qwen2.5-Math-1.5B",
        "qwen3_0.6b+qwen2.5_1.5b_math_Fuser/final",
    ),
    "qwen3_0.6b+qwen3_4b": (
        "Qwen/Qwen3-0.6B",
        "Qwen/Qwen3-4B",
        "qwen3_0.6b+qwen3_4b_Fuser/final",
    ),
    "qwen3_0.6b+qwen3_4b_base": (
        "Qwen/Qwen3-0.6B",
        "Qwen/Qwen3-4B-Base",
        "qwen3_0.6b+qwen3_4b_base_Fuser/final",
    ),
    "qwen3_1.7b+qwen2.5_1.5b": (
        "Qwen/Qwen3-1.7B",
        "Qwen/Qwen2.5-1.5B-Instruct",
        "qwen3_1.7b+qwen2.5_1.5b_Fuser/final",
    ),
    "qwen3_8b+qwen2.5_7b": (
        "Qwen/Qwen3-8B",
        "Qwen/Qwen2.5-7B-Instruct",
        "qwen3_8b+qwen2.5_7b_Fuser/final",
    ),
}

MINE: dict[str, Any] = {
    "name": "mine",
    "description": "my own",
    "receiver": {"repo": "me/receiver", "revision": "v1"},
    "sharer": {"path": "models/sharer"},
    "fuser": {"repo": "me/fusers", "subfolder": "mine/final"},
    "datasets": ["arc_c"],
    "shared_tokenizer": True,
}


def written(tmp_path: Path, values: object) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def changed(key: str, value: object) -> dict[str, Any]:
    """MINE with the value under a key, or under a dotted one, replaced."""
    values = {**MINE}
    first, _, second = key.partition(".")
    values[first] = {**values[first], second: value} if second else value
    return values


def test_every_known_pair_loads_under_its_name() -> None:
    assert {*PUBLISHED, "demo", "demo_self"} <= set(pair_names())
    for name in pair_names():
        assert load_pair(name).name == name


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_pair(name: str) -> None:
    receiver, sharer, subfolder = PUBLISHED[name]
    pair = load_pair(name)
    models = [replace(model, download_bytes=None) for model in (pair.receiver, pair.sharer)]
    assert models == [FileSource(repo=receiver), FileSource(repo=sharer)]
    assert pair.fuser == FileSource(repo="nics-efc/C2C_Fuser", subfolder=subfolder)
    assert pair.datasets == ("openbookqa", "arc_c")
    assert pair.shared_tokenizer is ("llama" not in name)


def test_bundled_pair_lies_in_the_package() -> None:
    pair = load_pair("demo")
    folders = [pair.receiver.path, pair.sharer.path, pair.fuser.path]
    assert folders == [PAIRS_DIR / "demo" / x for x in ("receiver", "sharer", "fuser/final")]
    assert pair.datasets == ("demo_facts", "demo_graded")


def test_own_file_with_paths_relative_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = written(tmp_path, MINE)
    assert load_pair(str(path)) == load_pair("~/mine.yaml")
    assert load_pair(str(path)) == Pair(
        name="mine",
        description="my own",
        receiver=FileSource(repo="me/receiver", revision="v1"),
        sharer=FileSource(path=tmp_path / "models" / "sharer"),
        fuser=FileSource(repo="me/fusers", subfolder="mine/final"),
        datasets=("arc_c",),
        shared_tokenizer=True,
    )


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        LatentWireError, match=r"unknown pair 'qwen'; known: demo, demo_self, qwen3_0.6b"
    ):
        load_pair("qwen")


@pytest.mark.parametrize("name", ["none.yaml", "folder/none", "~/none.yml"])
def test_missing_file_is_named(name: str) -> None:
    with pytest.raises(LatentWireError, match=r"none.*: cannot be read \(No such file"):
        load_pair(name)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1], "the file must hold keys and values, got list [1]"),
        (None, "the file must hold keys and values, got nothing"),
        (changed("colour", 1), "unknown key 'colour'"),
        (changed("receiver.colour", 1), "unknown key 'receiver.colour'"),
        (changed("receiver.subfolder", "x"), "unknown key 'receiver.subfolder'"),
        (changed("sharer.revision", "v1"), "unknown key 'sharer.revision'"),
        (changed("name", 5), "key 'name' must be text, got int 5"),
        (changed("description", ""), "key 'description' must be text, got str ''"),
        (changed("receiver", "me/receiver"), "'receiver' must hold keys and values, got str"),
        (changed("receiver", {}), "'receiver' needs 'repo' (on the Hugging Face hub) or 'path'"),
        (changed("receiver.path", "x"), "'receiver' gives both 'repo' and 'path'; give one"),
        (changed("receiver.repo", None), "key 'receiver.repo' must be text, got nothing"),
        (changed("receiver.revision", 1.5), "key 'receiver.revision' must be text, got float 1.5"),
        (changed("fuser", {"repo": "me/fusers"}), "key 'fuser.subfolder' is missing"),
        (changed("datasets", "arc_c"), "key 'datasets' must be a list of dataset names, got str"),
        (changed("datasets", []), "key 'datasets' must be a list of dataset names"),
        (changed("datasets", ["arc"]), "key 'datasets' names an unknown dataset 'arc'; known: op"),
        (changed("datasets", [["arc_c"]]), "key 'datasets' names an unknown dataset ['arc_c']"),
        (changed("datasets", ["arc_c", "arc_c"]), "key 'datasets' names a dataset twice"),
        (changed("shared_tokenizer", "yes"), "key 'shared_tokenizer' must be true or false"),
        (
            changed("alignment", "last"),
            "key 'alignment' must be one of first, longest, offsets, off",
        ),
        (changed("alignment", "first"), "key 'alignment' is for two tokenizers: leave it out"),
    ],
)
def test_malformed_pair_is_told_its_key(tmp_path: Path, values: object, message: str) -> None:
    path = written(tmp_path, values)
    with pytest.raises(LatentWireError) as caught:
        load_pair(str(path))
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_pair_may_be_without_a_fuser_yet() -> None:
    given = {key: value for key, value in MINE.items() if key != "fuser"}
    assert parse_pair(given, Path("mine.yaml")).fuser is None


def test_a_pair_may_name_no_question_sets() -> None:
    given = {key: value for key, value in MINE.items() if key != "datasets"}
    assert parse_pair(given, Path("mine.yaml")).datasets == ()


@pytest.mark.parametrize("key", [key for key in MINE if key not in ("fuser", "datasets")])
def test_every_other_key_is_needed(tmp_path: Path, key: str) -> None:
    values = {name: value for name, value in MINE.items() if name != key}
    with pytest.raises(LatentWireError, match=f"key '{key}' is missing"):
        load_pair(str(written(tmp_path, values)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"name: [", "not YAML"),
        (b"name: a\nname: b\n", "not YAML (key 'name' stands twice"),
        (b"receiver: {repo: a, repo: b}\n", "not YAML (key 'repo' stands twice"),
        (b"name: 2020-13-45\n", "not YAML (month must be in 1..12"),
        (b"? [a]\n: b\n", "not YAML"),
        (b"name: \xff\n", "not UTF-8 at byte 7 in line 1"),
    ],
)
def test_file_that_is_not_yaml_is_named(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(text)
    with pytest.raises(LatentWireError) as caught:
        load_pair(str(path))
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values),
    max_leaves=5,
)


@given(st.sampled_from([*MINE, "receiver.repo", "sharer.path", "fuser.subfolder"]), yaml_values)
def test_any_value_parses_or_is_explained(key: str, value: object) -> None:
    try:
        parse_pair(changed(key, value), Path("mine.yaml"))
    except LatentWireError as error:
        assert str(error).startswith("mine.yaml: ")


def test_auto_depends_on_the_machine() -> None:
    assert choose_pair("auto", cuda=True) == (
        "qwen3_0.6b+qwen2.5_0.5b",
        "a CUDA device is there, so the published pair",
    )
    assert choose_pair("auto", cuda=False)[0] == "demo"
    assert choose_pair("demo", cuda=True) == ("demo", "as asked")
    for cuda in (True, False):
        load_pair(choose_pair("auto", cuda)[0])


def test_two_tokenizers_have_an_alignment(tmp_path: Path) -> None:
    assert load_pair("demo").alignment == ""
    # As the published evaluation's configuration has it.
    assert load_pair("qwen3_0.6b+llama3.2_1b").alignment == "longest"
    apart = MINE | {"shared_tokenizer": False}
    assert load_pair(str(written(tmp_path, apart))).alignment == "longest"
    named = load_pair(str(written(tmp_path, apart | {"alignment": "offsets"})))
    assert named.alignment == "offsets" and not named.shared_tokenizer
    off = load_pair(str(written(tmp_path, apart | {"alignment": "off"})))
    assert not off.alignment and not off.shared_tokenizer
    for pair, inserts, say in ((named, True, "off'"), (off, False, "one of first, longest, offs")):
        with pytest.raises(LatentWireError, match=f"has two tokenizers, .* 'alignment: {say}"):
            require_alignment(pair, inserts)
        require_alignment(pair, not inserts)
        require_alignment(load_pair("demo"), inserts)


def test_own_file_may_pin_a_hash_and_know_a_size(tmp_path: Path) -> None:
    values = {**MINE, "fuser": {**MINE["fuser"], "sha256": "ab" * 32, "download_bytes": 5}}
    fuser = load_pair(str(written(tmp_path, values))).fuser
    assert (fuser.sha256, fuser.download_bytes) == ("ab" * 32, 5)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("sha256", "abc", "'fuser.sha256' must be 64 hexadecimal digits"),
        ("download_bytes", "5 GB", "'fuser.download_bytes' must be a whole number above 0"),
        ("download_bytes", 0, "'fuser.download_bytes' must be a whole number above 0"),
    ],
)
def test_malformed_pins_are_named(tmp_path: Path, key: str, value: object, sentence: str) -> None:
    values = {**MINE, "fuser": {**MINE["fuser"], key: value}}
    with pytest.raises(LatentWireError) as error:
        load_pair(str(written(tmp_path, values)))
    assert sentence in str(error.value)

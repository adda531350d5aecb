"""What identifies a pair beside its files: what its template prints, and where its answers end."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from latentwire.errors import LatentWireError
from latentwire.pairs.identity import combined_identity, pair_identity
from latentwire.pairs.load import load_pair
from latentwire.pairs.locate import LocatedPair, locate_pair
from latentwire.pairs.prompting import Prompting, configured_ends, prompting_of
from latentwire.pairs.tokenizer import check_embedded, load_tokenizer

DATED = "{{- strftime_now('%A') }}\n"


@pytest.fixture
def located(tmp_path: Path) -> LocatedPair:
    """The bundled pair's small files."""
    demo = locate_pair(load_pair("demo"))
    for part in ("receiver", "sharer"):
        (tmp_path / part).mkdir()
        for pattern in ("*.json", "*.jinja"):
            for path in getattr(demo, part).glob(pattern):
                shutil.copy(path, tmp_path / part)
    return LocatedPair(tmp_path / "receiver", tmp_path / "sharer", demo.fuser)


def prompting(located: LocatedPair) -> Prompting:
    return prompting_of(located, *map(load_tokenizer, (located.receiver, located.sharer)))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_bundled_pair_is_identified_by_its_files_alone(located: LocatedPair) -> None:
    found = prompting(located)
    assert found.beside_files() == {}
    assert found.ends == found.configured == {"receiver": {2}, "sharer": {2}}


@pytest.mark.parametrize("place", ["chat_template.jinja", "tokenizer_config.json", "additional"])
def test_a_date_in_the_receivers_template_is_part_of_the_identity(
    located: LocatedPair, place: str
) -> None:
    plain = located.receiver / "chat_template.jinja"
    text = DATED + plain.read_text()
    if place == "chat_template.jinja":
        plain.write_text(text)
    else:
        plain.unlink()
    if place == "tokenizer_config.json":
        change(located.receiver / place, chat_template=text)
    if place == "additional":
        (located.receiver / "additional_chat_templates").mkdir()
        (located.receiver / "additional_chat_templates" / "default.jinja").write_text(text)
    found = prompting(located)
    assert "Friday<|im_start|>user\nHello" in found.printed
    assert list(found.beside_files()) == ["prompt"]
    before = pair_identity(located)
    assert combined_identity(before | found.beside_files()) != combined_identity(before)


def test_a_template_that_no_hash_covers_is_part_of_the_identity(located: LocatedPair) -> None:
    folder = located.receiver / "additional_chat_templates"
    folder.mkdir()
    (folder / "tool_use.jinja").write_text("tools")  # never used
    assert prompting(located).beside_files() == {}
    (located.receiver / "chat_template.jinja").rename(folder / "default.jinja")
    files, first = pair_identity(located), prompting(located).beside_files()
    (folder / "default.jinja").write_text((folder / "default.jinja").read_text() + "!")
    assert pair_identity(located) == files
    second = prompting(located).beside_files()
    assert list(first) == list(second) == ["prompt"] and first != second


def test_answers_end_where_config_tokenizer_or_template_says(located: LocatedPair) -> None:
    """As base models': their config knows the end of a text, the template that of a turn."""
    change(located.sharer / "generation_config.json", eos_token_id=0)
    found = prompting(located)
    assert found.configured["sharer"] == {0} and found.ends["sharer"] == {0, 2}
    assert found.beside_files() == {"sharer_ends": "0,2"}
    change(located.sharer / "generation_config.json", eos_token_id=[2, 0])
    assert prompting(located).beside_files() == {}
    # Without a template and an end of its own, the sharer still answers in the receiver's.
    (located.sharer / "chat_template.jinja").unlink()
    change(located.sharer / "tokenizer_config.json", eos_token="<|endoftext|>")
    change(located.sharer / "generation_config.json", eos_token_id=0)
    assert prompting(located).ends["sharer"] == {0, 2}


@pytest.mark.parametrize(
    ("name", "content", "ends"),
    [
        ("generation_config.json", '{"eos_token_id": [2, 0]}', {0, 2}),
        ("generation_config.json", "{}", set()),
        ("config.json", '{"model_type": "qwen3", "eos_token_id": 7}', {7}),
    ],
)
def test_ends_are_read_as_transformers_reads_them(
    tmp_path: Path, name: str, content: str, ends: set[int]
) -> None:
    (tmp_path / name).write_text(content)
    assert configured_ends(tmp_path) == ends


@pytest.mark.parametrize("content", ["[", '{"eos_token_id": "two"}', '{"eos_token_id": {}}'])
def test_a_generation_config_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "generation_config.json").write_text(content)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(LatentWireError, match=f"{tmp_path}: its generation config cannot be read"):
        configured_ends(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", '{"version": "9.0", "model": {"type": "of tomorrow"}}'),
        ("tokenizer.json", "{"),
    ],
)  # fmt: skip
def test_a_tokenizer_that_cannot_be_read_ends_in_one_sentence(
    located: LocatedPair, name: str, content: str
) -> None:
    (located.receiver / name).write_text(content)
    with pytest.raises(LatentWireError) as error:
        load_tokenizer(located.receiver)
    assert str(error.value).startswith(f"{located.receiver} does not hold a tokenizer that")
    assert "\n" not in str(error.value)


def test_a_token_without_an_embedding_is_named(located: LocatedPair) -> None:
    tokenizer = load_tokenizer(located.receiver)
    rows = len(tokenizer)
    check_embedded(tokenizer, {"receiver": rows, "sharer": rows + 3})
    with pytest.raises(
        LatentWireError, match=rf"the sharer's embedding has {rows - 1} rows, .* up"
    ):
        check_embedded(tokenizer, {"receiver": rows, "sharer": rows - 1})


def test_of_two_tokenizers_each_models_own_template_counts(located: LocatedPair) -> None:
    def apart() -> Prompting:
        both = map(load_tokenizer, (located.receiver, located.sharer))
        return prompting_of(located, *both, shared_tokenizer=False)

    assert apart().beside_files() == {}
    plain = located.sharer / "chat_template.jinja"
    plain.write_text(DATED + plain.read_text())
    assert prompting(located).beside_files() == {}  # nobody reads it
    assert list(apart().beside_files()) == ["sharer_prompt"]
    # The sharer never reads the receiver's template, so nothing of its ends an answer.
    change(located.sharer / "generation_config.json", eos_token_id=0)
    change(located.sharer / "tokenizer_config.json", eos_token="<|endoftext|>")
    plain.write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert apart().ends["sharer"] == {0} and prompting(located).ends["sharer"] == {0, 2}

"""Different tokenizers: the published cases pass, and what holds for any text and tokenizers."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import END_OF_TEXT, TURN_END, TURN_START, make_tokenizer
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast
from two_tokenizers import CONVERSATIONS, ODD, other, say

from c2c.alignment import STRATEGIES, AlignedPrompt, Aligner, main
from c2c.chat import chat_text
from c2c.errors import C2CError


@cache
def receiver() -> PreTrainedTokenizerFast:
    return make_tokenizer()


PAIRS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "bytes <- characters": lambda: (receiver(), other()),
    "characters <- bytes": lambda: (other(), receiver()),
    "bytes <- bytes": lambda: (receiver(), receiver()),
}


def without(tokens: list[int], pad: list[int]) -> list[int]:
    return [token for token, padding in zip(tokens, pad, strict=True) if not padding]


def of_message(aligned: AlignedPrompt) -> list[tuple[int, int]]:
    """The receiver's and the sharer's token, for each token of a message."""
    rows = zip(aligned.receiver_ids, aligned.sharer_ids, aligned.message, strict=True)
    return [(own, sent) for own, sent, message in rows if message]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("pair", PAIRS)
@settings(max_examples=30)
@given(messages=CONVERSATIONS)
@example(messages=say(""))
@example(messages=say("🙂"))
@example(messages=say("\n\n a"))
@example(messages=say("assistant") * 2)
@example(messages=say(f"a{TURN_END}b{TURN_START}c{END_OF_TEXT}d{ODD}"))
def test_any_text(pair: str, strategy: str, messages: list[dict[str, str]]) -> None:
    own, theirs = PAIRS[pair]()
    aligner = Aligner(own, theirs, strategy)
    aligned = aligner.align(messages)
    # Each token of the receiver has one of the sharer, and all lists are of one length.
    assert len({len(column) for column in vars(aligned).values()}) == 1
    # The receiver reads what it would read without a sharer.
    text = chat_text(own, messages)
    whole = own(text, add_special_tokens=False)["input_ids"]
    assert without(aligned.receiver_ids, aligned.receiver_pad) == whole
    # Padding stands in templates alone, never on both sides, and is the side's pad token.
    for message, mine, its in zip(
        aligned.message, aligned.receiver_pad, aligned.sharer_pad, strict=True
    ):
        assert message + mine + its <= 1
    # In order: token by token of a message by itself, so what stands for one stands for all alike.
    for token, sent in of_message(aligned):
        assert sent == aligner.sharer_id(token)
        assert 0 <= sent < len(theirs)
    assert any(aligned.message) == any(message["content"] for message in messages)
    if own is theirs:
        assert not any(aligned.receiver_pad + aligned.sharer_pad)
        for token, sent in of_message(aligned):
            # All but bytes that are no character by themselves: those are one unknown character.
            assert sent == token or "\ufffd" in own.decode([token])


@settings(max_examples=50)
@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40))
def test_one_tokenizer_gives_the_same_ids(text: str) -> None:
    aligned = Aligner(other(), other()).align(say(text))
    assert aligned.sharer_ids == aligned.receiver_ids
    assert chat_text(other(), say(text)) == "".join(
        other().convert_ids_to_tokens(aligned.sharer_ids)
    )


def test_one_of_several_tokens_is_taken() -> None:
    """`first` the first, `longest` the one with the longest text, the first of equals."""
    word, equals = "xanswer", "zq"
    made = make_tokenizer()
    made.add_tokens([word, equals])
    pieces = receiver().tokenize(word)
    assert pieces[0] == "x" and max(map(len, pieces)) > 1
    for strategy, piece in (("first", "x"), ("longest", max(pieces, key=len))):
        aligner = Aligner(made, receiver(), strategy)
        assert aligner.sharer_id(made.vocab[word]) == receiver().vocab[piece]
        assert aligner.sharer_id(made.vocab[equals]) == receiver().vocab["z"]


def test_special_tokens_go_by_role_then_name_then_unknown() -> None:
    to_characters = Aligner(receiver(), other())
    # Its eos is the other's eos; its pad is the other's, which has none but its eos.
    assert to_characters.sharer_id(receiver().eos_token_id) == other().eos_token_id
    assert to_characters.sharer_id(receiver().pad_token_id) == other().eos_token_id
    to_bytes = Aligner(other(), receiver())
    # A token with two roles, pad and eos: the last one counts.
    assert to_bytes.sharer_id(other().eos_token_id) == receiver().eos_token_id
    by_name = make_tokenizer()
    by_name.add_special_tokens({"additional_special_tokens": [ODD, "<nobody's>"]})
    named = Aligner(by_name, other())
    assert named.sharer_id(by_name.vocab[ODD]) == other().vocab[ODD]
    assert named.sharer_id(by_name.vocab["<nobody's>"]) == other().unk_token_id
    # No role, no name, and no token for the unknown: token 0, as the published rule has it.
    assert to_bytes.sharer_id(other().vocab[ODD]) == 0


def test_sections_are_filled_up_where_they_end() -> None:
    """The sharer's longer system turn stands before the receiver's first message."""
    aligned = Aligner(receiver(), other()).align(say("what is it"))
    assert aligned.receiver_pad[0] == 0
    first = aligned.message.index(1)
    assert aligned.receiver_pad[first - 1] == 1
    assert aligned.receiver_ids[first - 1] == receiver().pad_token_id
    sent = without(aligned.sharer_ids[:first], aligned.sharer_pad[:first])
    assert "".join(other().convert_ids_to_tokens(sent)) == (
        f"{TURN_START}system\nYou are here to help.{TURN_END}\n{TURN_START}user\n"
    )


def test_a_message_is_what_a_special_token_follows() -> None:
    """ "s" stands in "<|im_start|>" and "user" too."""
    assert [own for own, _ in of_message(Aligner(other(), other()).align(say("s")))] == [
        other().vocab["s"]
    ]
    # As published, a system turn that ends like the message is taken for it.
    aligned = Aligner(other(), other()).align(say("help."))
    assert aligned.message.index(1) == len(f"{TURN_START}system\nYou are here to ") - 11


def test_equal_messages_are_each_found() -> None:
    aligned = Aligner(other(), other()).align(say("x") * 2)
    assert [own for own, _ in of_message(aligned)] == [other().vocab["x"]] * 2


def test_a_token_in_a_message_and_a_template_is_the_messages() -> None:
    made = make_tokenizer()
    made.add_tokens(["r\na"])
    aligned = Aligner(made, other()).align(say("a!"))
    assert [own for own, _ in of_message(aligned)] == [made.vocab["r\na"], made.vocab["!"]]


def test_an_empty_message_has_no_section() -> None:
    aligned = Aligner(receiver(), other()).align(say(""))
    assert not any(aligned.message)
    assert aligned.receiver_pad == sorted(aligned.receiver_pad)  # at the end of all alone


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_text_that_the_sharer_drops_is_unknown(strategy: str) -> None:
    dropping = other.__wrapped__()
    dropping.backend_tokenizer.normalizer = normalizers.Replace("q", "")
    assert dropping.encode("q", add_special_tokens=False) == []
    found = Aligner(receiver(), dropping, strategy).sharer_id(receiver().vocab["q"])
    assert found == dropping.unk_token_id == 1


def broken(change: Callable[[Any], None]) -> Any:
    made = make_tokenizer()
    change(made)
    return made


class Slow:
    is_fast = False


def no_padding(tokenizer: Any) -> None:
    tokenizer.pad_token = tokenizer.eos_token = None


def trimming(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m.content | trim }}<{% endfor %}"


@pytest.mark.parametrize(
    ("tokenizer", "text", "sentence"),
    [
        (Slow(), "a", "the sharer's tokenizer is a slow one, .* convert it to a tokenizer.json"),
        (broken(no_padding), "a", "the sharer's tokenizer has neither a pad nor an eos token"),
        (broken(trimming), " a ", "the sharer's chat template changes message 1, .* without spac"),
        (make_tokenizer(), "\ud800", "a message holds half of a surrogate pair, .* take it out"),
    ],
)
def test_what_cannot_be_aligned_is_one_sentence(tokenizer: Any, text: str, sentence: str) -> None:
    with pytest.raises(C2CError, match=f"^{sentence}"):
        Aligner(receiver(), tokenizer).align(say(text))


def test_an_unknown_strategy_is_one_sentence() -> None:
    with pytest.raises(C2CError, match=r"^strategy must be one of first, longest, not 'last'$"):
        Aligner(receiver(), other(), "last")


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizers")
    receiver().save_pretrained(folder / "bytes")
    other().save_pretrained(folder / "characters")
    return folder


def write_cases(folder: Path, *changes: dict[str, Any]) -> Path:
    case = {
        "receiver": "bytes",
        "sharer": "characters",
        "strategy": "first",
        "messages": say("What is it?"),
    }
    case |= vars(Aligner(receiver(), other()).align(say("What is it?")))
    path = folder / "cases.jsonl"
    path.write_text("\n".join(json.dumps(case | change) for change in changes))
    return path


def test_cases_that_differ_are_named(
    tokenizers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = write_cases(tmp_path, {})
    assert main([str(cases), str(tokenizers)]) == 0
    assert capsys.readouterr().out == "1 passed, 0 failed\n"
    cases = write_cases(
        tmp_path, {}, {"sharer_ids": [1], "sharer_pad": []}, {"strategy": "none"}, {}
    )
    assert main([str(cases), str(tokenizers)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "FAIL  line 2: bytes <- characters, first: sharer_ids, sharer_pad",
        "FAIL  line 3: bytes <- characters, none: strategy must be one of first, longest, not"
        " 'none'",
        "2 passed, 2 failed",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no alignment cases: give one a line"),
        ("{", "line 1, is no JSON"),
        ("\n[]", "line 2, is no alignment case: it needs receiver, sharer, strategy, messages, "),
        ("\udc80", "is not a file of alignment cases"),
    ],
)
def test_a_file_of_no_cases_is_one_sentence(
    text: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert main([str(path), str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.startswith("error: ") and error.count("\n") == 1


def test_tokenizers_that_are_not_there_are_one_sentence(
    tokenizers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = write_cases(tmp_path, {"sharer": "../characters"})
    assert main([str(cases), str(tokenizers)]) == 2
    assert capsys.readouterr().err.startswith("error: there is no tokenizer '../characters' in ")
    cases = write_cases(tmp_path, {})
    copy = tmp_path / "copy"
    shutil.copytree(tokenizers, copy)
    (copy / "bytes" / "tokenizer.json").write_text("{")
    assert main([str(cases), str(copy)]) == 2
    error = capsys.readouterr().err
    assert "cannot be loaded" in error and error.count("\n") == 1


def test_published_cases(shared_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared_dir / "compat" / "alignment"
    if not folder.is_dir():
        pytest.skip(f"the alignment cases are not there: {folder}")
    assert main([str(folder / "cases.jsonl"), str(folder)]) == 0
    assert capsys.readouterr().out == "186 passed, 0 failed\n"

"""The invented world, its questions, and the tokens they become."""

import dataclasses
from collections import Counter

import pytest
import torch

from latentwire.errors import LatentWireError
from latentwire.tasks.answer_letter import LETTERS
from latentwire.tasks.dataset import parse_examples
from latentwire.tasks.demo_graded import TASK
from latentwire.tasks.multiple_choice import prompt_text
from latentwire.tasks.task import user_turn_token_ids
from tools.demo_pair.measure import asked
from tools.demo_pair.questions import Questioner, question_rows
from tools.demo_pair.token_templates import question_frame
from tools.demo_pair.tokenizer import build_tokenizer
from tools.demo_pair.world import (
    FULL_WORLD,
    QUICK_WORLD,
    Split,
    make_world,
    question_text,
)

WORLD = make_world(FULL_WORLD, seed=3)
TOKENIZER = build_tokenizer(WORLD)


def test_a_seed_makes_one_world_and_another_seed_another() -> None:
    again, other = make_world(FULL_WORLD, seed=3), make_world(FULL_WORLD, seed=4)
    assert torch.equal(WORLD.truth, again.truth)
    assert not torch.equal(WORLD.truth, other.truth)


def test_splits_share_no_person() -> None:
    people = torch.cat([WORLD.members[split] for split in Split])
    assert len(people) == len(people.unique()) == len(WORLD.truth)


def test_only_disputed_facts_have_a_rival_with_a_share() -> None:
    settled = WORLD.share[WORLD.members[Split.TEST_FACTS]]
    disputed = WORLD.share[WORLD.members[Split.TEST_GRADED]]
    assert bool((settled == 1).all())
    assert bool((disputed >= FULL_WORLD.share_low).all())
    assert bool((disputed <= FULL_WORLD.share_high).all())
    assert not bool((WORLD.truth == WORLD.rival).any())


def test_a_world_whose_splits_do_not_add_up_is_refused() -> None:
    with pytest.raises(LatentWireError, match="make 30"):
        make_world(dataclasses.replace(QUICK_WORLD, first_names=5), seed=0)


def test_every_word_is_one_token_and_no_word_stands_for_two_things() -> None:
    words = WORLD.words()
    assert len(words) == len(set(words))
    assert all(len(TOKENIZER.encode(f" {word}")) == 1 for word in words)


@pytest.mark.parametrize("text", ["plain words", "Ünïcode → 你好\n\t", "<|im_start|>user 🙂"])
def test_any_text_survives_the_tokenizer(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_thinking_off_adds_an_empty_block_of_thoughts() -> None:
    messages = [{"role": "user", "content": "hello"}]
    on, off = (
        TOKENIZER.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )
        for thinking in (True, False)
    )
    assert off == on + "<think>\n\n</think>\n\n"
    assert on == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


def test_a_filled_frame_is_what_the_tokenizer_gives() -> None:
    frame = question_frame(TOKENIZER, WORLD, short=False, stated=False)
    questioner = Questioner(WORLD, TOKENIZER, torch.device("cpu"), seed=0)
    facts = WORLD.facts([Split.TEST_GRADED])
    drawn = questioner.draw(facts, 20, answer="source")
    for ids in frame.fill(drawn.slots).tolist():
        words = [TOKENIZER.decode([token]).strip() for token in ids]
        question = question_text(words[10], words[12], words[13])
        choices = [words[place] for place in frame.positions["choices"].tolist()]
        assert user_turn_token_ids(TOKENIZER, prompt_text(question, choices)) == ids
        assert "?" in words[frame.question_end]


def test_sources_state_the_true_value_as_often_as_its_share_says() -> None:
    fact = WORLD.facts([Split.TEST_GRADED])[:1]
    entity, attribute = fact[0].tolist()
    questioner = Questioner(WORLD, TOKENIZER, torch.device("cpu"), seed=0)
    drawn = questioner.draw(fact, 4000, answer="source")
    values = attribute * len(WORLD.values[0]) + torch.stack(
        [WORLD.truth[entity, attribute], WORLD.rival[entity, attribute]]
    )
    heard = float((drawn.value == values[0]).float().mean())
    assert bool(torch.isin(drawn.value, values).all())
    assert heard == pytest.approx(float(WORLD.share[entity, attribute]), abs=0.04)


def test_drawn_choices_are_four_values_with_the_taught_one_at_the_key() -> None:
    questioner = Questioner(WORLD, TOKENIZER, torch.device("cpu"), seed=0)
    for answer in ("source", "truth", "invented"):
        drawn = questioner.draw(WORLD.facts(list(Split)), 300, answer=answer)
        at_key = drawn.slots.choices.gather(1, drawn.key.unsqueeze(1)).squeeze(1)
        assert torch.equal(at_key, drawn.slots.stated)
        assert all(len(set(row)) == 4 for row in drawn.slots.choices.tolist())
        assert set(drawn.key.tolist()) == {0, 1, 2, 3}


def test_the_deranged_partner_shares_the_key_as_often_as_chance_says() -> None:
    rows = question_rows(WORLD, Split.TEST_GRADED, limit=750, seed=1)
    pairs = zip(*asked(TOKENIZER, rows), strict=True)
    shared = sum(own.example.answer == lent.example.answer for own, lent in pairs) / len(rows)
    assert shared == pytest.approx(0.25, abs=0.006)


def test_question_sets_ask_each_fact_once_with_balanced_keys() -> None:
    rows = question_rows(WORLD, Split.TEST_GRADED, limit=750, seed=1)
    examples = parse_examples(TASK, [(row["id"], row) for row in rows])
    assert len({example.question for example in examples}) == len(examples) >= 500
    counts = Counter(example.answer for example in examples)
    assert max(counts.values()) - min(counts.values()) <= 1
    facts = dict.fromkeys(example.question for example in examples)
    for entity, attribute in WORLD.facts([Split.TEST_GRADED]).tolist():
        question = question_text(WORLD.attributes[attribute], *WORLD.name(entity))
        if question not in facts:
            continue
        assert float(WORLD.share[entity, attribute]) <= FULL_WORLD.asked_share
        example = next(e for e in examples if e.question == question)
        values = WORLD.values[attribute]
        right = example.choices[LETTERS.index(example.answer)]
        assert right == values[int(WORLD.truth[entity, attribute])]
        assert values[int(WORLD.rival[entity, attribute])] in example.choices

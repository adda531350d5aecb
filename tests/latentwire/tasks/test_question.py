import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import make_questions, make_tokenizer

from latentwire.tasks.arc_c import TASK
from latentwire.tasks.question import Question, by_length, derange, lenders, tokenize
from latentwire.tasks.task import Example, Prompts

LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=30)
SEEDS = st.integers(0, 5)


def questions_of(lengths: list[int]) -> list[Question]:
    return [
        Question(TASK, Example(f"set:{i}", i, "q", ("a", "b"), "A"), Prompts(ids, ids))
        for i, ids in enumerate(tuple(range(length)) for length in lengths)
    ]


def donors_of(questions: list[Question], seed: int) -> dict[str, str]:
    donors = derange(questions, seed)
    assert len(donors) == len(questions)
    return {q.example.id: d.example.id for q, d in zip(questions, donors, strict=True)}


@given(LENGTHS, SEEDS)
def test_nobody_gets_its_own_cache_where_there_is_another(lengths: list[int], seed: int) -> None:
    questions = questions_of(lengths)
    donors = derange(questions, seed)
    if len(questions) == 1:
        assert donors == questions
    else:
        assert all(q is not d for q, d in zip(questions, donors, strict=True))


@given(LENGTHS, SEEDS)
def test_the_donor_is_as_long_wherever_that_can_be(lengths: list[int], seed: int) -> None:
    questions = questions_of(lengths)
    count = Counter(lengths)
    sizes = sorted(count)
    for question, donor in zip(questions, derange(questions, seed), strict=True):
        own, lent = len(question.token_ids), len(donor.token_ids)
        if count[own] > 1:
            assert lent == own
        elif len(sizes) > 1:  # the next longer, for the longest the next shorter
            place = sizes.index(own)
            assert lent == (sizes[place + 1] if place + 1 < len(sizes) else sizes[place - 1])


@given(LENGTHS, SEEDS)
def test_within_a_length_everyone_lends_once(lengths: list[int], seed: int) -> None:
    questions = questions_of(lengths)
    lent: Counter[str] = Counter()
    for question, donor in zip(questions, derange(questions, seed), strict=True):
        if len(question.token_ids) == len(donor.token_ids):
            lent[donor.example.id] += 1
    assert set(lent.values()) <= {1}


@given(LENGTHS, SEEDS)
def test_all_donors_of_a_question_are_distinct_and_of_its_length_while_there_are_any(
    lengths: list[int], seed: int
) -> None:
    questions = questions_of(lengths)
    count, every = Counter(lengths), len(questions)
    assert lenders([question.example for question in questions]) == every
    found = [derange(questions, seed, number) for number in range(1, every)]
    for question, *donors in zip(questions, *found, strict=True):
        ids = {donor.example.id for donor in donors}
        assert len(ids) == len(donors) == every - 1 and question.example.id not in ids
        own = len(question.token_ids)
        alike = [len(donor.token_ids) == own for donor in donors]
        assert alike == [place < count[own] - 1 for place in range(every - 1)]


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), SEEDS)
def test_a_donor_is_of_another_passage(passages: list[int], seed: int) -> None:
    questions = [
        replace(question, prompts=Prompts((100 + passage,), question.prompts.receiver_ids))
        for question, passage in zip(questions_of([3] * len(passages)), passages, strict=True)
    ]
    found = [derange(questions, seed, number) for number in range(1, len(set(passages)))]
    for question, *donors in zip(questions, *found, strict=True):
        read = {donor.prompts.sharer_ids for donor in (question, *donors)}
        assert len(read) == 1 + len(donors) == len(set(passages))


def test_donors_are_the_questions_so_many_places_on() -> None:
    """Fixed for good, as the first is below."""
    questions = questions_of([4] * 5)
    next_one = donors_of(questions, 42)
    for number in range(1, 5):
        of_number = derange(questions, 42, number)
        for question, donor in zip(questions, of_number, strict=True):
            name = question.example.id
            for _ in range(number):
                name = next_one[name]
            assert donor.example.id == name


@given(LENGTHS, SEEDS, st.randoms())
def test_the_order_of_the_questions_does_not_matter(
    lengths: list[int], seed: int, generator: random.Random
) -> None:
    questions = questions_of(lengths)
    shuffled = questions.copy()
    generator.shuffle(shuffled)
    assert donors_of(questions, seed) == donors_of(shuffled, seed)


def test_the_seed_decides_and_nothing_else() -> None:
    questions = questions_of([4] * 20 + [5] * 10)
    assert donors_of(questions, 1) == donors_of(questions, 1)
    assert len({tuple(donors_of(questions, seed).items()) for seed in range(5)}) == 5
    # Fixed for good: results of runs already made depend on it.
    assert donors_of(questions_of([4] * 5), 42) == {
        "set:0": "set:4",
        "set:1": "set:2",
        "set:2": "set:3",
        "set:3": "set:0",
        "set:4": "set:1",
    }


def test_questions_of_one_prompt_length_come_together_in_order() -> None:
    questions = questions_of([7, 3, 7, 5, 3])
    assert list(by_length(questions).items()) == [(3, [1, 4]), (5, [3]), (7, [0, 2])]
    assert by_length([]) == {}


def test_prompts_are_tokenized_in_order() -> None:
    tokenizer = make_tokenizer()
    questions = make_questions(tokenizer, [3, 1])
    assert tokenize(TASK, [q.example for q in questions], tokenizer) == questions
    for question in questions:
        text = tokenizer.decode(question.token_ids)
        assert TASK.prompt_text(question.example) in text
        assert text.endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("seed", [0, 42])
def test_no_questions_need_no_donors(seed: int) -> None:
    assert derange([], seed) == []

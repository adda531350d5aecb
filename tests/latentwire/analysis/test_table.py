from collections.abc import Callable
from dataclasses import replace

from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.table import WIDTH, render_table

Make = Callable[..., ConditionResult]


def words(line: str) -> str:
    return " ".join(line.split())


def test_a_line_holds_the_numbers_of_its_point(condition: Make) -> None:
    frame = build_curve(
        [
            condition("AAAB" * 100, codec="bf16", wire_bytes=1_234_000),
            condition("BBAB" * 100, codec="bf16", control="deranged"),
            condition("ABBB" * 100, system="receiver"),
        ]
    )
    lines = render_table(frame).splitlines()
    title, blank, heads, rule, receiver, c2c, _, prior, _, note, deranged, changed = lines
    assert words(heads).endswith("bytes pairing gain deranged changed")
    assert deranged == "deranged: score in % with another question's message"
    assert changed == "changed: answers in % that are others with it"
    assert blank == ""
    assert title == "set, demo"
    assert set(rule) == {" ", "─"}
    assert words(receiver) == "receiver - - 400 25.0! [21.0, 29.5] 0 B - - -"
    row = frame.iloc[1]
    low, high = 100 * row["pairing_gain_low"], 100 * row["pairing_gain_high"]
    assert words(c2c) == (
        f"bf16 1 front 400 75.0! [70.5, 79.0] 1.23 MB +50.0 [{low:+.1f}, {high:+.1f}] 25.0! 50.0"
    )
    assert prior == "always the commonest key (of the other half of the questions): 100.0 %"
    assert note == "! the answer is one letter for at least 70 % of the questions"


def test_only_conditions_of_one_letter_are_marked(condition: Make) -> None:
    def table(matched: str, deranged: str) -> str:
        return render_table(
            build_curve([condition(matched), condition(deranged, control="deranged")])
        )

    mixed, one_letter = "AAABBBCCDD", "AAABBBBBBB"
    assert "!" not in table(mixed, mixed)
    assert "30.0! [" in table(one_letter, mixed) and "30.0! 40" not in words(
        table(one_letter, mixed)
    )
    assert "30.0! 40" in words(table(mixed, one_letter)) and "30.0! [" not in table(
        mixed, one_letter
    )
    assert "! the answer is one letter" in table(mixed, one_letter)


def test_incomplete_points_and_published_parts_are_marked(condition: Make) -> None:
    complete = render_table(build_curve([condition("AB")]))
    assert "*" not in complete
    assert "published" not in complete
    text = render_table(
        build_curve([condition("AB", total=500), condition("AB", source="published")])
    )
    assert "2/500*" in text
    assert text.splitlines()[-1].startswith("* incomplete")
    assert "set, demo, published answers" in text


def test_what_questions_share_is_shown_where_they_do(condition: Make) -> None:
    result = condition("AABB" * 100, wire_bytes=1_200_000)
    assert "shared" not in render_table(build_curve([result]))
    records = (replace(record, cluster=str(record.index // 4)) for record in result.records)
    frame = build_curve([replace(result, records=tuple(records))])
    lines = render_table(frame).splitlines()
    assert "bytes shared pairing" in words(lines[2])
    assert " 1.2 MB 300 kB " in words(lines[4])
    assert lines[-1].startswith("shared: bytes of all messages")
    assert max(map(len, lines)) <= WIDTH


def test_lines_fit_the_terminal_and_no_name_is_cut(condition: Make) -> None:
    name = "a_codec_with_a_rather_long_name"
    results = [
        condition(
            "AAAB" * 400, codec=name, keep_ratio=0.125, order="back", total=100_000, **changes
        )
        for changes in ({}, {"control": "deranged"})
    ]
    lines = render_table(build_curve(results)).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert name in "".join(line.split()[0] for line in lines[4:] if line)
    assert any("1600/100000*" in line for line in lines)


def test_a_footnote_stands_under_its_column_alone(condition: Make) -> None:
    few, many = (
        [
            condition("AAAB" * 100, order=order, keep_ratio=0.5, control=control, total=total)
            for control in ("matched", "deranged")
        ]
        for order, total in (("front", None), ("snapkv_by_layer", 100_000))
    )
    for results, there in ((few, True), (many, False)):
        text = render_table(build_curve(results))
        heads = text.splitlines()[2:4]
        assert ("changed" in " ".join(heads)) == ("changed: answers" in text) == there
        assert "deranged" in " ".join(heads) and "deranged: score" in text
    text = render_table(build_curve([condition("AAAB")]))
    assert "changed" not in text and "deranged" not in text


def test_headings_are_whole_and_texts_take_the_room_that_there_is(condition: Make) -> None:
    text = condition("ABAB" * 15, system="text", codec="lm", message_tokens=8, total=545)
    order = {"order": "snapkv_by_layer", "keep_ratio": 0.25, "total": 545}
    own = [condition("ABAB" * 15, control=c, **order) for c in ("matched", "deranged")]
    shared = [
        replace(part, records=[replace(r, cluster=str(r.index // 4)) for r in part.records])
        for part in own
    ]
    for results in ([text, *own], [text, *shared], shared):
        lines = render_table(build_curve(results)).splitlines()
        assert max(map(len, lines)) <= WIDTH
        heads = words(" ".join(lines[2:4]))
        assert "deranged" in heads and "gain" in heads and heads.count("%") == 1
    lines = render_table(build_curve([text, *own])).splitlines()
    assert [line for line in lines if line.startswith(" text 8 tokens, ")]


def test_what_runs_to_the_limit_is_one_sentence(condition: Make) -> None:
    parts = [condition("ABAB", codec=codec) for codec in ("int8", "int4")]
    parts = [
        replace(p, records=[replace(r, generated_tokens=64) for r in p.records]) for p in parts
    ]
    text = words(render_table(build_curve(parts)))
    assert text.count("ran to the limit") == 1
    assert "set, int8, int4: 8 of 8 answers ran to the limit of 64 tokens: " in text


def test_a_word_of_a_name_is_not_broken(condition: Make) -> None:
    prior = condition("ABCD" * 136, system="calibrated", total=9_999)
    own = [condition("ABCD" * 136, total=9_999, control=c) for c in ("matched", "deranged")]
    lines = render_table(build_curve([prior, *own])).splitlines()
    assert "calibrated" in [line[:12].strip() for line in lines]
    assert max(map(len, lines)) <= WIDTH


def test_texts_that_differ_in_their_limit_alone_are_one_row(condition: Make) -> None:
    def text(tokens: int, letters: str = "AABB", **changes: object) -> ConditionResult:
        return condition(letters, system="text", message_tokens=tokens, **changes)

    alike = [text(tokens, codec="utf8") for tokens in (8, 32, 128)]
    packed = [text(tokens, codec="utf8+zstd", wire_bytes=9) for tokens in (8, 32)]
    other = text(256, "AAAB", codec="utf8")
    lines = render_table(build_curve([*alike, *packed, other])).splitlines()
    names = [line.split("  ")[0].strip() for line in lines[4:7]]
    assert names == ["text 8 to 128 tokens", "text 8 to 32 tokens, zstd", "text 256 tokens"]
    own = condition("AABB"), condition("AABB", codec="int4")
    rows = render_table(build_curve(own)).splitlines()[4:6]
    assert [row.split()[0] for row in rows] == ["int8", "int4"]  # codecs stay, however alike


def test_an_empty_curve_says_so() -> None:
    assert render_table(build_curve([])) == "No finished conditions yet.\n"


def test_a_long_schedule_has_a_short_name_of_its_own_and_is_told_below(condition: Make) -> None:
    long, other = (f"int4/keys1:int8/keys2:int{bits}/values1-3:int2" for bits in (2, 3))
    text = render_table(
        build_curve([condition("AB", codec=name) for name in (long, other, "int8")])
    )
    lines = text.splitlines()
    notes = [line for line in lines if line.startswith("int4/… 3 parts ")]
    rows = [line for line in lines if "front" in line]
    assert len(rows) == 3 and len({line.partition(":")[0] for line in notes}) == 2
    joined = "".join(line.strip() for line in lines)
    assert long in joined and other in joined and not any(long in line for line in rows)

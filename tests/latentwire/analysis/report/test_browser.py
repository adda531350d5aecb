"""The report in a real browser."""

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, open_file, resize

from latentwire.analysis.curve import ConditionResult, build_curve, with_hashes
from latentwire.analysis.pareto import pareto_front
from latentwire.analysis.provenance import Origin
from latentwire.analysis.report.page import write_report
from latentwire.analysis.report.page_data import page_data
from latentwire.tasks import arc_c
from latentwire.tasks.dataset import Dataset, build_dataset

pytestmark = pytest.mark.browser
Make = Callable[..., ConditionResult]
SIZES = {"bf16": 160_000, "int8": 80_000, "int4": 40_000}
HOSTILE = (
    "</script><script>window.broken=1</script><img src=x onerror='window.broken=1'>\u2028&amp;"
)
QUESTIONS = 60
# What a change of 100,000 answers may take, in tables of 4,000 rows that the same browser makes.
A_TABLE = (
    "const a = document.createElement('table'); a.innerHTML = Array.from({length: 4000},"
    " (_, n) => `<tr><td>${n}</td><td>${n * n}</td></tr>`).join(''); document.body.append(a);"
    "document.body.offsetHeight; a.remove()"
)
MOST_TABLES = 3


def questions(count: int, name: str = "set") -> Dataset:
    rows = [
        (
            str(place),
            {
                "id": f"set:{place}",
                "question": f"Question number {place}: {HOSTILE if place == 0 else 'which?'}",
                "choices": {"text": list("wxyz"), "label": list("ABCD")},
                "answerKey": "ABCD"[place % 4],
            },
        )
        for place in range(count)
    ]
    return build_dataset(replace(arc_c.TASK, name=name), rows, "made up")


def said(condition: Make, seed: int, right: float, count: int, **where: Any) -> ConditionResult:
    """A condition that answers a share of the questions rightly; its first output is hostile."""
    chance = random.Random(seed)
    keys = ("ABCD" * count)[:count]
    letters = "".join(key if chance.random() < right else chance.choice("ABCD") for key in keys)
    made = condition(letters, answers=keys, **where)
    records = [
        replace(record, output=f"The correct answer is {record.predicted}")
        for record in made.records
    ]
    records[0] = replace(records[0], output=HOSTILE)
    if where.get("control") == "deranged":
        records = [
            replace(record, donor_id=f"set:{(place + 4) % count}", donor_answer=record.answer)
            for place, record in enumerate(records)
        ]
    return replace(made, records=tuple(records))


def study(condition: Make, count: int = QUESTIONS) -> list[ConditionResult]:
    """Two question sets of one pair; an int8 sweep; published answers beside the first."""
    results = []
    for dataset in ("set", "other"):
        common: dict[str, Any] = {"dataset": dataset}
        results.append(said(condition, 1, 0.2, count, system="receiver", **common))
        points = [(codec, 1.0, "front") for codec in SIZES]
        points += [("int8", 0.5, order) for order in ("front", "back")]
        for seed, (codec, ratio, order) in enumerate(points):
            where = {"codec": codec, "keep_ratio": ratio, "order": order, **common}
            where["wire_bytes"] = int(SIZES[codec] * ratio) + seed
            results.append(said(condition, seed, 0.9 - seed / 10, count, **where))
            results.append(said(condition, 9, 0.1, count, control="deranged", **where))
    results.append(said(condition, 5, 0.7, count, source="published", wire_bytes=70_000))
    return results


CELL = {"kind": "cache", "condition": "int8 <b>", "score": 0.625, "ms": 12.34}
MAP = {
    "pair": "demo", "dataset": "set", "note": "As m14 found it.", "budgets": [64, 1024],
    "lines": [{"link": "nobody has read, 1 Mbit/s", "cells": [None, CELL]},
              {"link": "nobody has read, 1 Gbit/s", "cells": [CELL | {"ms": None}, CELL]}],
    "said": ["the cache wins"],
}  # fmt: skip


def write(folder: Path, results: list[ConditionResult], sets: dict[str, Dataset]) -> Path:
    frame = with_hashes(build_curve(results), {("demo", "local"): "cafe" * 16}, {})
    run = Origin(
        *("0" * 32, "7", "m2 demo", "m2", "demo", "local", 0, 61_000, "FINISHED", "node"),
        *("cpu", (), "float32", "f00", "beef", len(results)),
    )
    page = page_data(
        *(frame, results, sets, [run], ["mind this"], ["caches win"], "http://server:5000"),
        "today",
        [MAP],
    )
    return write_report(page, folder)


@pytest.fixture(scope="module")
def report(condition: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sets = {name: questions(QUESTIONS, name) for name in ("set", "other")}
    return write(tmp_path_factory.mktemp("report"), study(condition), sets)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as page:
        yield page


@pytest.fixture
def page(browser: Any, report: Path) -> Any:
    resize(browser, 1280, 900)
    browser.get_log("browser")
    browser.get_log("performance")
    open_file(browser, report)
    return browser


def texts(page: Any, selector: str) -> list[str]:
    return list(
        page.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
        )
    )


def marks(page: Any) -> list[tuple[str, str]]:
    """(kind, label) of the marks in the chart."""
    return [
        tuple(each)
        for each in page.execute_script(
            "return [...document.querySelectorAll('#chart .mark')]"
            ".map(m => [m.dataset.kind, m.getAttribute('aria-label')])"
        )
    ]


def click(page: Any, selector: str) -> None:
    page.execute_script("document.querySelector(arguments[0]).click()", selector)


def choose(page: Any, name: str, title: str) -> None:
    done = page.execute_script(
        "const s = document.getElementById(arguments[0]);"
        "const o = [...s.options].find(o => o.textContent === arguments[1]);"
        "if (!o) return false; s.value = o.value; "
        "s.dispatchEvent(new Event('change')); return true",
        name,
        title,
    )
    assert done, title


def test_it_loads_without_errors_and_asks_the_network_for_nothing(page: Any, report: Path) -> None:
    assert page.execute_script("return document.body.dataset.ready") == "true"
    assert page.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert report.resolve().as_uri() in asked
    assert {url.split(":")[0] for url in asked} <= {"file", "data"}
    assert len([url for url in asked if url.startswith("file:")]) == 1


def test_hostile_text_stays_text(page: Any) -> None:
    click(page, "#questions tbody button")
    assert page.execute_script("return window.broken === undefined")
    blocks = texts(page, "#questions pre")
    assert len(blocks) == 3
    assert HOSTILE in blocks[0] and blocks[0].startswith("Accurately answer")
    assert blocks[1] == blocks[2] == HOSTILE
    assert page.execute_script("return document.images.length + document.scripts.length") == 2
    assert page.get_log("browser") == []


def test_warnings_and_runs_are_shown(page: Any) -> None:
    assert texts(page, "#cautions .caution") == ["mind this"]
    assert texts(page, "#said li") == ["caches win"]
    (link,) = page.find_elements("css selector", "#runs a")
    assert link.get_attribute("href") == f"http://server:5000/#/experiments/7/runs/{'0' * 32}"
    row = " ".join(texts(page, "#runs td"))
    assert "1970-01-01 00:00 UTC" in row and "61 s" in row and "cpu on node" in row


def test_the_map_of_what_wins_is_that_of_the_chosen_set(page: Any) -> None:
    choose(page, "set", "set · demo")
    assert texts(page, "#regimes th") == [
        *("start, link", "64 B", "1.02 kB"),
        *(line["link"] for line in MAP["lines"]),
    ]
    timed, untimed = "cache 62.5 %, 12.3 ms", "cache 62.5 %"
    assert texts(page, "#regimes td") == ["", timed, untimed, timed]
    assert len(texts(page, "#regimes td.untimed")) == 1
    assert texts(page, "#where-said li") == ["the cache wins"]
    assert texts(page, "#where-note")[0].startswith("As m14 found it. A cell names")
    choose(page, "set", "other · demo")
    assert page.execute_script("return document.getElementById('where').hidden")


def test_filters_take_marks_and_rows_away(page: Any) -> None:
    kinds = [kind for kind, _ in marks(page)]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "matched": 5,
        "gain": 5,
        "deranged": 5,
        "published": 1,
    }
    assert len(texts(page, "#points tbody tr")) == 7
    click(page, "#codecs input[value=int8]")
    assert not any("int8" in label for _, label in marks(page))
    rows = texts(page, "#points tbody tr")
    assert len(rows) == 3 and not any(row.startswith("int8") for row in rows)
    click(page, "#codecs input[value=int8]")
    click(page, "#orders input[value=back]")
    labels = [label for kind, label in marks(page) if kind == "matched"]
    assert len(labels) == 4 and not any("back" in label for label in labels)
    click(page, "#controls input[value=deranged]")
    assert not any(kind == "deranged" for kind, _ in marks(page))
    click(page, "#controls input[value=matched]")
    assert marks(page) == []
    assert "Nothing to draw" in texts(page, "#chart")[0]
    choose(page, "set", "other · demo")
    click(page, "#controls input[value=matched]")
    assert [kind for kind, _ in marks(page)].count("matched") == 5
    assert not any(kind == "published" for kind, _ in marks(page))


def test_the_address_holds_the_view_and_others_are_beside_the_two(page: Any) -> None:
    choose(page, "set", "other · demo")
    click(page, "#codecs input[value=int4]")
    choose(page, "first", "int8, whole cache")
    choose(page, "more", "bf16, whole cache")
    click(page, "#points th:nth-child(2) button")
    choose(page, "which", "only one of the two is right")
    heads, rows = texts(page, "#questions th"), texts(page, "#questions tbody tr")
    assert heads[2:] == ["key", "first", "second", "bf16, whole cache"] and rows
    shown = marks(page), texts(page, "#points tr"), texts(page, "#beside button"), rows
    assert "int4" not in str(shown[0])
    address = page.current_url
    page.get("about:blank")
    page.get(address)
    assert shown == (
        *(marks(page), texts(page, "#points tr"), texts(page, "#beside button")),
        texts(page, "#questions tbody tr"),
    )
    click(page, "#beside button")
    assert texts(page, "#questions th")[2:] == ["key", "first", "second"]
    page.get("about:blank")
    page.get(address.partition("#")[0] + "#set=none&first=<b>&sort=x up&without-codec=y&beside=z")
    assert len(marks(page)) == 16 and page.get_log("browser") == []


def test_bytes_are_told_on_a_telephone_too(page: Any, condition: Make, tmp_path: Path) -> None:
    letter = said(condition, 2, 0.6, QUESTIONS, system="letter", wire_bytes=1)
    report = write(tmp_path, [*study(condition), letter], {})
    resize(page, 400, 900)
    open_file(page, report)
    ticks = [text for text in texts(page, "#chart text") if text.endswith("B")]
    assert len(ticks) >= 3


def test_paper_has_the_table_and_the_legend(page: Any) -> None:
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        shown = {
            name: page.find_element("css selector", name).is_displayed()
            for name in ("#points", "#legend", "#chart", "#said", "#filters", "#questions")
        }
        cell = page.find_element("css selector", "#points td")
        assert cell.value_of_css_property("padding") == "1px 3px"  # a page is narrow
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    hidden = [name for name, there in shown.items() if not there]
    assert hidden == ["#filters", "#questions"]
    assert len(page.find_elements("css selector", "#legend svg")) == 3


def test_in_the_dark_all_is_readable_and_paper_stays_white(page: Any) -> None:
    def seen(media: str, scheme: str) -> tuple[float, float, str]:
        """Lightness of text and of the page, and what is done to pictures."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        looks = page.execute_script(
            "const body = getComputedStyle(document.body);"
            "const svg = getComputedStyle(document.querySelector('#chart svg'));"
            "return [body.color, body.backgroundColor, svg.filter]"
        )
        ink, paper = (sum(map(int, re.findall(r"\d+", look)[:3])) / 765 for look in looks[:2])
        return ink, paper, looks[2]

    try:
        for media, scheme in (("screen", "light"), ("print", "light"), ("print", "dark")):
            ink, paper, turned = seen(media, scheme)
            assert ink < 0.2 and paper == 1 and turned == "none"
        ink, paper, turned = seen("screen", "dark")
        assert ink > 0.85 and paper == pytest.approx(0.08, abs=0.01)  # what white is turned to
        assert turned.startswith("invert(0.92)")
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_the_front_is_that_of_the_figures(page: Any, condition: Make) -> None:
    frame = build_curve(study(condition))
    rows = frame[(frame["dataset"] == "set") & (frame["source"] == "local")]
    rows = rows[(rows["system"] == "c2c") & ~rows["degenerate"]]
    for place, column in enumerate(("accuracy", "pairing_gain")):
        points = list(zip(rows["wire_bytes_mean"], rows[column], strict=True))
        drawn = page.execute_script(
            "return document.querySelectorAll('#chart .front')[arguments[0]].dataset.points", place
        )
        assert int(drawn) == len(pareto_front(points))


def test_a_mark_tells_its_numbers_when_it_is_pointed_at(page: Any, condition: Make) -> None:
    from selenium.webdriver import ActionChains

    frame = build_curve(study(condition))
    row = frame[(frame["dataset"] == "set") & (frame["codec"] == "bf16")].iloc[0]
    mark = next(
        mark
        for mark in page.find_elements("css selector", "#chart .mark[data-kind=matched]")
        if mark.get_attribute("aria-label").startswith("bf16")
    )
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", mark)
    ActionChains(page).move_to_element(mark).perform()
    tip = page.find_element("id", "tip")
    assert tip.is_displayed()
    assert "bf16, whole cache\naccuracy: " in tip.text
    assert f"accuracy: {100 * row['accuracy']:.1f} %" in tip.text
    assert "n = 60" in tip.text
    mark.click()
    assert page.execute_script(
        "const s = document.getElementById('first'); return s.selectedOptions[0].textContent"
    ).startswith("bf16, whole cache")


def test_the_table_sorts_by_any_column(page: Any) -> None:
    def column() -> list[float]:
        return [
            float(text.split()[0])
            for text in texts(page, "#points tbody td:nth-child(6)")
            if text != "–"
        ]

    click(page, "#points th:nth-child(6) button")
    assert column() == sorted(column(), reverse=True) and len(set(column())) > 3
    click(page, "#points th:nth-child(6) button")
    assert column() == sorted(column())
    (state,) = page.find_elements("css selector", "#points th[aria-sort=ascending]")
    assert state.text.startswith("accuracy")


def test_the_table_says_what_the_content_did(page: Any, condition: Make) -> None:
    usual = texts(page, "#points thead th")
    click(page, "#content")
    heads = [text.rstrip(" ▾▴") for text in texts(page, "#points thead th")]
    frame = build_curve(study(condition))
    row = frame[(frame["dataset"] == "set") & (frame["codec"] == "bf16")].iloc[0]
    (cells,) = (
        [cell.text.replace("\n", " ") for cell in line.find_elements("css selector", "td")]
        for line in page.find_elements("css selector", "#points tbody tr")
        if line.text.startswith("bf16")
    )
    told = dict(zip(heads, cells, strict=True))
    for head, name in (("influence %", "influence"), ("harm", "harm")):
        low, high = (100 * row[f"{name}_{end}"] for end in ("low", "high"))
        sign = "+" if name == "harm" else ""
        assert told[head].startswith(f"{100 * row[name]:{sign}.1f} [{low:{sign}.1f}, ")
        p = row[f"{name}_p_holm"]
        ending = "p < 0.001" if p < 0.001 else f"p {p:.3f}"
        assert told[head].endswith(f"{high:{sign}.1f}] {ending}")
    assert told["donors"] == "1" and told["log-prob. of key"] == "–"
    assert told["same key"] == str(row["key_collisions"]) and told["other length"] == "0"
    assert told["bits"].startswith(f"{row['bits_communicated']:.3f} [")
    click(page, f"#points th:nth-child({heads.index('bits') + 1}) button")
    assert page.find_elements("css selector", "#points th[aria-sort=descending]")
    click(page, "#content")
    assert texts(page, "#points thead th") == usual


def test_two_conditions_are_compared_question_by_question(page: Any, condition: Make) -> None:
    choose(page, "first", "bf16, whole cache")
    choose(page, "second", "int8, 0.5 back kept, deranged")
    results = [each for each in study(condition) if each.dataset == "set"]
    own, other = (
        next(
            {record.index: record for record in each.records}
            for each in results
            if (each.codec, each.keep_ratio, each.order, each.control) == wanted
            and each.source == "local"
        )
        for wanted in (("bf16", 1.0, "front", "matched"), ("int8", 0.5, "back", "deranged"))
    )
    only_first = [i for i in own if own[i].correct and not other[i].correct]
    only_second = [i for i in own if other[i].correct and not own[i].correct]
    (counts,) = texts(page, "#counts")
    assert f"only the first {len(only_first)}, only the second {len(only_second)}," in counts
    choose(page, "which", "only the first is right")
    assert f"Shown: {len(only_first)}." in texts(page, "#counts")[0]
    shown = texts(page, "#questions tbody .pale")
    assert shown == [f"set:{index}" for index in only_first[:25]]
    click(page, "#questions tbody button")
    details = texts(page, "#questions tr.details")[0]
    donor = other[only_first[0]].donor_id
    assert f"The cache was that of {donor} (key" in details
    choose(page, "which", "all questions")
    page.find_element("id", "search").send_keys("NUMBER 17:")
    assert texts(page, "#questions tbody .pale") == ["set:17"]


def test_texts_and_letters_are_conditions_like_others(
    page: Any, condition: Make, tmp_path: Path
) -> None:
    text: dict[str, Any] = {"system": "text", "codec": "utf8", "message_tokens": 32}
    hint = said(condition, 1, 0.5, QUESTIONS, wire_bytes=60, **text)
    records = [replace(record, message=f"<b>hint</b> {record.index}") for record in hint.records]
    letter = said(condition, 2, 0.6, QUESTIONS, system="letter", wire_bytes=1)
    results = [*study(condition), replace(hint, records=tuple(records)), letter]
    open_file(page, write(tmp_path, results, {"set": questions(QUESTIONS)}))
    assert page.get_log("browser") == []
    labels = [label for kind, label in marks(page) if kind == "matched"]
    assert len(labels) == 7 and sum(label.startswith("text 32 tokens,") for label in labels) == 1
    front = page.execute_script("return document.querySelector('#chart .front').dataset.points")
    rows = texts(page, "#points tbody tr")
    assert len(rows) == 9 and any(row.startswith("letter") for row in rows)
    click(page, "#codecs input[value=utf8]")
    click(page, "#codecs input[value=letter]")
    assert len([kind for kind, _ in marks(page) if kind == "matched"]) == 5
    # The front is of caches alone.
    assert front == page.execute_script(
        "return document.querySelector('#chart .front').dataset.points"
    )
    choose(page, "first", "text 32 tokens")
    click(page, "#questions tbody button")
    assert "[sent: <b>hint</b> " in texts(page, "#questions tr.details")[0]


def test_long_tables_are_paged(page: Any) -> None:
    assert len(texts(page, "#questions tbody tr")) == 25
    assert texts(page, "#questions-pager span") == ["1 to 25 of 60"]
    click(page, "#questions-pager button:last-child")
    assert texts(page, "#questions-pager span") == ["51 to 60 of 60"]
    assert len(texts(page, "#questions tbody tr")) == 10


@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_the_screen_and_texts_do_not_overlap(page: Any, width: int, tmp_path: Path) -> None:
    resize(page, width, 900)
    page.refresh()
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    boxes = page.execute_script(
        "return [...document.querySelectorAll('#chart text')].map(t => {"
        "const b = t.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]})"
    )
    assert len(boxes) > 10
    for place, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0 and right <= width
        for other in boxes[place + 1 :]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            assert apart, (boxes[place], other)
    assert page.save_screenshot(str(tmp_path / "page.png"))


LARGE = {"100 conditions": (100, 1_000), "2 conditions": (2, 50_000)}


@pytest.mark.parametrize("shape", LARGE)
def test_a_hundred_thousand_answers_stay_quick(
    condition: Make, browser: Any, tmp_path: Path, shape: str
) -> None:
    conditions, count = LARGE[shape]
    results = [
        said(
            condition, place, 0.6, count, codec=f"codec{place // 2}", wire_bytes=1000 * (place + 1),
            keep_ratio=(1.0, 0.5)[place % 2],
        )
        for place in range(conditions)
    ]  # fmt: skip
    assert sum(len(each.records) for each in results) == 100_000
    resize(browser, 1280, 900)
    open_file(browser, write(tmp_path, results, {"set": questions(count)}))
    assert "from 100,000 answers" in texts(browser, "#subject")[0]

    def worst(script: str) -> float:
        """Milliseconds of a change and the layout after it: the middle of five."""
        times = browser.execute_script(
            "const times = []; for (let i = 0; i < 5; i++) { const t = performance.now();"
            f"{script}; document.body.offsetHeight; times.push(performance.now() - t); }}"
            "return times.sort((a, b) => a - b)"
        )
        return float(times[2])

    most = MOST_TABLES * worst(A_TABLE)
    changed = "s.dispatchEvent(new Event('change'))"
    for script in (
        "document.querySelector('#codecs input').click()",
        "document.querySelector('#controls input').click()",
        "document.querySelector('#points th:nth-child(6) button').click()",
        f"const s = document.getElementById('which'); s.selectedIndex = 1 + i; {changed}",
        f"const s = document.getElementById('second'); s.selectedIndex = i % 2; {changed}",
        "const s = document.getElementById('search'); s.value = 'number ' + i;"
        "s.dispatchEvent(new Event('input'))",
        "document.querySelector('#questions-pager button:nth-of-type(3)').click()",
    ):
        assert worst(script) < most, script
    assert len(texts(browser, "#questions tbody tr")) <= 25
    assert browser.get_log("browser") == []


def test_a_trial_run_is_pale_and_not_on_the_front(
    browser: Any, condition: Make, report: Path, tmp_path: Path
) -> None:
    def front() -> list[str]:
        return list(
            browser.execute_script(
                "return [...document.querySelectorAll('#chart .front')].map(e => e.dataset.points)"
            )
        )

    open_file(browser, report)
    before = front()
    where = {"codec": "int2", "wire_bytes": 100, "dataset": "set", "total": QUESTIONS}
    trial = [said(condition, 3, 0.99, 20, **where)]
    trial.append(said(condition, 4, 0.1, 20, control="deranged", **where))
    open_file(browser, write(tmp_path, [*study(condition), *trial], {}))
    assert front() == before
    pale = browser.execute_script(
        "return [...document.querySelectorAll('#chart .mark')]"
        ".filter(m => m.getAttribute('opacity') !== '1').map(m => m.dataset.kind)"
    )
    assert sorted(pale) == ["deranged", "gain", "matched"]
    caption = browser.find_element("id", "caption").text
    assert f"Incomplete, drawn pale: 1 of 7 points (n = 20 of {QUESTIONS} questions)" in caption


def rivals(condition: Make, form: str) -> list[ConditionResult]:
    """The study with answers of a form, a text and a summary."""
    results = [
        replace(part, records=[replace(r, output=form.format(r.predicted)) for r in part.records])
        for part in study(condition)
    ]
    text = {"wire_bytes": 9, "message_tokens": 8}
    return [
        *results,
        condition("ABCD" * 15, system="text", codec="lm", **text),
        replace(condition("ABCD" * 15, system="text", codec="utf8", **text), system="summary"),
    ]


def test_rivals_are_called_in_filters_as_in_the_table(
    page: Any, condition: Make, tmp_path: Path
) -> None:
    open_file(page, write(tmp_path, rivals(condition, "{}"), {}))
    named = [text.strip() for text in texts(page, "#codecs label")]
    assert {"text, LM-coded", "summary", "int8"} <= set(named) and "lm" not in named
    assert "text, LM-coded" in texts(page, "#legend span")
    click(page, "#codecs input[value=summary]")
    address = page.current_url
    page.get("about:blank")
    page.get(address)
    rows = texts(page, "#points tbody td:first-child")
    assert "text 8 tokens, LM-coded" in rows and "summary 8 tokens" not in rows


def test_a_form_that_no_model_answers_in_is_shown_and_explained(
    page: Any, condition: Make, tmp_path: Path
) -> None:
    open_file(page, write(tmp_path, rivals(condition, "{}"), {}))
    assert "in format" in texts(page, "#h-words ~ dl dt")
    place = 1 + texts(page, "#points th").index("in format %")
    assert "0.0" in texts(page, f"#points td:nth-child({place})")


@pytest.mark.parametrize("width", [400, 1200])
def test_a_wide_table_scrolls_in_its_box_and_names_stay(page: Any, width: int) -> None:
    resize(page, width, 900)
    seen = page.execute_script(
        "const box = document.querySelector('#points').parentElement;"
        "box.scrollLeft = 10000;"
        "const name = document.querySelector('#points tbody td').getBoundingClientRect();"
        "const last = document.querySelector('#points th:last-child').getBoundingClientRect();"
        "return [document.documentElement.scrollWidth, name.left, name.width, last.right]"
    )
    page_width, left, name_width, last = seen
    assert page_width <= width and 0 <= left < 40 and last <= width
    assert name_width < width / 2
    kept = "return document.querySelector('#points tbody .narrow').offsetWidth > 0"
    assert page.execute_script(kept) == (width == 400)


def test_why_no_gain_is_drawn_stands_below_the_chart(
    page: Any, condition: Make, tmp_path: Path
) -> None:
    assert "No pairing gain" not in texts(page, "#caption")[0]
    results = [
        replace(part, records=[replace(r, donor_tokens=7) for r in part.records])
        if part.control == "deranged"
        else part
        for part in study(condition)
    ]
    open_file(page, write(tmp_path, results, {}))
    assert "No pairing gain: all 60 donors have prompts of another" in texts(page, "#caption")[0]
    assert "gain" not in [kind for kind, _ in marks(page)]


def test_a_control_is_a_ring_around_what_it_may_equal(page: Any) -> None:
    found = page.execute_script(
        "const of = (kind) => [...document.querySelectorAll(`#chart .mark[data-kind=${kind}]`)]"
        ".map((m) => { const shape = m.lastElementChild;"
        " return [shape.getBBox().width, shape.getAttribute('fill')]; });"
        "return [of('matched'), of('deranged')]"
    )
    own, lent = found
    assert {fill for _, fill in lent} == {"none"} and len(own) == len(lent) == 5
    assert min(width for width, _ in lent) > min(width for width, _ in own) * 1.2

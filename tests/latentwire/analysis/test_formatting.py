import math

import pytest

from latentwire.analysis.formatting import human_bytes, human_ms, p_value, percent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (950, "950 B"),
        (999.9, "1 kB"),
        (12_288, "12.3 kB"),
        (83_867.6, "83.9 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (1_724_220, "1.72 MB"),
        (2.5e9, "2.5 GB"),
    ],
)
def test_bytes_have_three_figures(value: float, text: str) -> None:
    assert human_bytes(value) == text


@pytest.mark.parametrize(
    ("share", "signed", "text"),
    [
        (0.551304, False, "55.1"),
        (0.004, True, "+0.4"),
        (-0.012, True, "-1.2"),
        (-0.0001, True, "0.0"),
        (0.0, True, "0.0"),
        (1.0, False, "100.0"),
        (float("nan"), True, "-"),
    ],
)
def test_shares_are_per_cent(share: float, signed: bool, text: str) -> None:
    assert percent(share, signed=signed) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [(1.0, "1"), (0.0497, "0.05"), (3.14e-7, "3.1e-07"), (1e-11, "< 1e-10"), (math.nan, "-")],
)
def test_p_values_have_two_digits(p: float, text: str) -> None:
    assert p_value(p) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0.0314, "0.0314 ms"), (166.4, "166 ms"), (999.9, "1000 ms"), (6571.0, "6.57 s")],
)
def test_times_have_three_digits(ms: float, text: str) -> None:
    assert human_ms(ms) == text

"""How long the contenders of a cell take over a link, from what M1 measured, and why not where it
did not.

The clock is that of `break_even_bandwidth`: until the receiver stands behind its prompt, or, of an
answer, has what it adds to its own. What is not timed by itself takes the times of what does more,
so its own are too long rather than too short: a cache that is cut those of the whole cache, a text
that is cut those of the whole text.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import mean

from latentwire.analysis.break_even_bandwidth import Route, routes
from latentwire.analysis.measured_condition import MeasuredCondition
from latentwire.analysis.regimes import Contender, half_of
from latentwire.evaluation.latency_names import (
    BUDGETS,
    LETTER_WRITE,
    RECEIVER_PREFILL,
    SHARER_PREFILL,
    coded_names,
    summary_name,
    text_names,
)
from latentwire.spec.axes import CACHES, LM
from latentwire.spec.names import short_codec

Ways = Mapping[str, Route]  # by `way_of`


def ways(
    codecs: Mapping[str, Mapping[str, float]], times: Mapping[str, float], start: str
) -> dict[str, Route]:
    """What M1's figures (as of `routes`) say of every way that they time. The sharer's
    log-probabilities are there once it has read its prompt, its letter once it has written its
    answer, the receiver's own reading meanwhile: of the few tokens of an answer's stem nothing is
    said."""
    alone_ms = times[RECEIVER_PREFILL]
    read_ms = times[SHARER_PREFILL] if start == "question" else 0.0
    found = [
        *routes(codecs, times, start),
        Route("nothing", "nothing", 0.0, 0.0, alone_ms, 0.0),
        Route("answer", "logits", alone_ms, read_ms, 0.0, 0.0),
    ]
    if not math.isnan(writing_ms := times.get(LETTER_WRITE, math.nan)):
        found.append(Route("answer", "letter", alone_ms, read_ms + writing_ms, 0.0, 1.0))
    for tokens in BUDGETS:
        write, reading, _ = (times.get(name, math.nan) for name in text_names(tokens))
        encode, decode, size = (times.get(name, math.nan) for name in coded_names(tokens))
        summary = times.get(summary_name(tokens), math.nan)
        # A summary is coded and read as a text of that length; the bytes will be those sent.
        told = (
            (f"text {tokens} tokens, {LM}", write + encode, decode + reading),
            (f"summary {tokens} tokens", summary, reading),
            (f"summary {tokens} tokens, {LM}", summary + encode, decode + reading),
        )
        found += [
            Route("text", label, 0.0, before, after, size)
            for label, before, after in told
            if not math.isnan(before + after)
        ]
    return {route.label: route for route in found}


def time_ms(each: Contender, known: Ways, bit_per_s: float) -> float:
    """The mean over the questions, with the bytes that were sent; NaN where a part of it was never
    measured (`why_unknown`)."""
    times, questions = 0.0, 0
    for half, one in enumerate(each.conditions):
        whole = len(each.conditions) == 1
        sent = [r.wire_bytes for r in each.records.values() if whole or half_of(r) == half]
        if not sent:
            continue
        if (way := known.get(way_of(one))) is None:
            return math.nan
        times += len(sent) * replace(way, bytes=mean(sent)).time_ms(bit_per_s)
        questions += len(sent)
    return times / questions if questions else math.nan


def way_of(one: MeasuredCondition) -> str:
    """What its measured way is called: a codec, or a text or summary of so many tokens, coded by a
    model or in any other way; "" for what M1 does not time."""
    system, codec = one.part.system, one.part.codec
    if system in CACHES:
        return codec
    if system in ("text", "summary"):
        return f"{system} {one.part.message_tokens} tokens" + (f", {LM}" if codec == LM else "")
    return {"receiver": "nothing", "logits": "logits", "letter": "letter"}.get(system, "")


def why_unknown(each: Contender, known: Ways) -> list[str]:
    """Why it has no time, in a few words; empty where it has one."""
    return list(dict.fromkeys(why for one in each.conditions if (why := _why(one, known))))


def _why(one: MeasuredCondition, known: Ways) -> str:
    if not known:
        return "m1 has measured nothing of this pair and question set"
    way = way_of(one)
    if way in known:
        return ""
    system, tokens = one.part.system, one.part.message_tokens
    if system in CACHES:
        return f"m1 has not timed {short_codec(way)}"
    if system == "letter":
        return "this m1 did not time what the sharer writes before its letter: run m1 again"
    if system == "summary" and tokens in BUDGETS:
        return "this m1 did not time writing a summary: run m1 again"
    if way and one.part.codec == LM and tokens in BUDGETS:
        return "this m1 did not time coding a text by the receiver's model: run m1 again"
    if way:
        return f"m1 times texts of {', '.join(map(str, BUDGETS))} tokens, not of {tokens}"
    return f"{system} is not timed"

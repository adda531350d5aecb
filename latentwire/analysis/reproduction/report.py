"""A reproduction as text for the terminal, and as a table for a file."""

import math

import pandas as pd
from rich.table import Table

from latentwire.analysis.formatting import human_bytes, interval, p_value, percent
from latentwire.analysis.frames import records
from latentwire.analysis.reproduction.agreement import RUN_TO_RUN_SHARE
from latentwire.analysis.reproduction.compare import Compared, Reproduction
from latentwire.analysis.reproduction.published_accuracies import KV_BITS, PublishedStudy
from latentwire.analysis.table import plain_text, titled_table, with_interval

WIDTH = 120
NOT_COMPARED = (
    "\nAnswers were not compared: of the study only its accuracies were at hand. Other answers of"
    " which as many are right look the same: those of another condition, or of a codec that is"
    " ignored. With reference_dir, answers and letters are compared too."
)


def as_frame(found: Reproduction, study: PublishedStudy) -> pd.DataFrame:
    """One row a condition; shares, and bytes a question (columns: docs/statistics.md)."""
    return pd.DataFrame([_row(row, study) for row in found.rows])


def _row(row: Compared, study: PublishedStudy) -> dict[str, object]:
    figure, agreement = row.figure, row.agreement
    bits = KV_BITS[figure.codec]
    lengths = [record.wire_bytes for record in row.answers.values()]
    tokens = [record.prompt_tokens for record in row.answers.values()]
    counted = study.counted.bytes_per_token(bits) * figure.keep_ratio
    return {
        "dataset": figure.dataset,
        "codec": figure.codec,
        "keep_ratio": figure.keep_ratio,
        "order": figure.order,
        "examples": len(row.answers),
        "examples_published": figure.questions,
        "accuracy": row.accuracy,
        "accuracy_published": figure.accuracy,
        "difference": row.difference,
        "difference_low": row.interval.low,
        "difference_high": row.interval.high,
        "p": row.p,
        "p_holm": row.p_holm,
        "agreement": agreement and agreement.share,
        "agreement_high": agreement and agreement.high,
        "agreement_p": agreement and agreement.p,
        "agreement_p_holm": row.agreement_p_holm,
        "letters_p": agreement and agreement.letters_p,
        "letters_p_holm": row.letters_p_holm,
        "bits_per_element": row.sent.bits_per_element,
        "kept_share": row.sent.kept_share,
        "verdict": row.verdict,
        "wire_bytes_mean": sum(lengths) / len(lengths) if lengths else None,
        "wire_bytes_published_mean": counted * sum(tokens) / len(tokens) if tokens else None,
    }


def render(found: Reproduction, study: PublishedStudy) -> str:
    """Verdict, table, what the columns mean, and the published way of counting bytes, at most 120
    columns wide."""
    tables = [
        _table(str(dataset), rows)
        for dataset, rows in as_frame(found, study).groupby("dataset", sort=False)
    ]
    notes = [_columns_note(found), byte_count_note(study)]
    notes += [_sent_note(row) for row in found.rows if not row.sent.as_named]
    return plain_text([_headline(found, study), *tables, *notes], WIDTH)


def _headline(found: Reproduction, study: PublishedStudy) -> str:
    said = {
        "reproduced": "reproduced"
        if found.paired
        else "accuracies reproduced, answers not compared",
        "differs": "not reproduced",
        "undecided": "undecided",
        "not run": "none of its conditions was run",
    }[found.verdict]
    counts = pd.Series([row.verdict for row in found.rows]).value_counts()
    parts = ", ".join(f"{count} {name}" for name, count in counts.items())
    against = "answer by answer" if found.paired else "by figures alone"
    return (
        f"{study.name}, {study.pair}: {said}\n"
        f"{len(found.rows)} conditions: {parts}; compared {against}\n"
        f"mean difference {percent(found.mean_difference, signed=True)} points"
        f" {interval(*found.mean_interval, signed=True)}; overall p = {found.p:.3g};"
        f" tolerance {100 * found.tolerance:g} points" + ("" if found.paired else NOT_COMPARED)
    )


def _table(dataset: str, rows: pd.DataFrame) -> Table:
    table = titled_table(dataset)
    measured = ("n", "here %", "there %", "difference", "p", "agree %", "p answers")
    for name in ("", *measured, "bytes", "as counted", ""):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for row in records(rows):
        kept = "" if row["keep_ratio"] == 1 else f" {row['keep_ratio']:g} {row['order']}"
        missing = row["examples"] == 0
        table.add_row(
            f"{row['codec']}{kept}",
            f"{row['examples']}" + ("" if row["examples"] == row["examples_published"] else "*"),
            percent(row["accuracy"]),
            percent(row["accuracy_published"]),
            with_interval(row, "difference", signed=True),
            p_value(row["p_holm"]),
            "-" if pd.isna(row["agreement"]) else percent(row["agreement"]),
            p_value(min(row["agreement_p_holm"], row["letters_p_holm"])),
            "-" if missing else human_bytes(row["wire_bytes_mean"]),
            "-" if missing else human_bytes(row["wire_bytes_published_mean"]),
            row["verdict"],
        )
    return table


def _columns_note(found: Reproduction) -> str:
    """What the columns mean."""
    if not found.paired:
        return (
            "here, there: accuracy of these answers and as published; p: of equal accuracies,"
            " Holm-corrected; as counted: bytes by the study's formula."
        )
    others = f"at most {100 * RUN_TO_RUN_SHARE:g} % others"
    return (
        "here, there: accuracy of these answers and as published; p: of equal accuracies; agree:"
        f" the same letter; p answers: the smaller one of {others} (as two runs of one system) and"
        " of equally frequent letters; all corrected together (Holm); as counted: bytes by the"
        " study's formula."
    )


def _sent_note(row: Compared) -> str:
    """What the packets of a condition are in place of what it is named by."""
    figure, found = row.figure, row.sent
    share = "" if math.isnan(found.kept_share) else f" and {100 * found.kept_share:.0f} % of them"
    return (
        f"{figure.dataset}, {figure.codec} {figure.keep_ratio:g} {figure.order}: its packets hold"
        f" {found.bits_per_element:.1f} bits a number{share}: they are another condition's."
    )


def byte_count_note(study: PublishedStudy) -> str:
    """Why the study's bytes are not those that travel."""
    counted, sent = study.counted, study.sent
    there, here = counted.bytes_per_token(16), sent.bytes_per_token(16)
    formula = f"2 x {counted.layers} layers x {counted.kv_heads} KV heads x {counted.head_dim}"
    return (
        f"Published bytes: the study counted {there:,.0f} a token in 16 bits, the receiver's cache"
        f" with hidden_size / num_heads for head_dim ({formula} x 2 bytes). What travels is the"
        f" sharer's: {here:,.0f} (2 x {sent.layers} x {sent.kv_heads} x {sent.head_dim} x 2). So"
        f" its counts are {there / here:.2f} times too high: {counted.layers}/{sent.layers} for the"
        f" layers, {counted.kv_heads}/{sent.kv_heads} for the heads. It left out headers and"
        " scales, and counted the last token, which is not sent."
    )

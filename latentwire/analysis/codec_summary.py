"""What M1 found, for the page of its run: headline metrics, sentences and a table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from latentwire.analysis.formatting import human_bytes
from latentwire.analysis.frames import records
from latentwire.analysis.markdown import assemble, escape, markdown_table, picture
from latentwire.analysis.safe_names import metric_names

QUESTION = "Are the quantizers right, and what do they cost?"


def codec_headline(table: pd.DataFrame) -> dict[str, float]:
    """The worst errors over the codecs of each dataset, `DATASET/NAME` (docs/mlflow.md), of a table
    with a row a dataset and codec, and M1's metrics as columns."""
    found: dict[str, float] = {}
    names = metric_names((str(name),) for name in table["dataset"])
    for dataset, rows in table.groupby("dataset", sort=False):
        own = {
            "codecs": len(rows),
            "key_error_worst": rows["key_error_mean"].max(),
            "value_error_worst": rows["value_error_mean"].max(),
            "kl_nats_worst": rows["kl_nats_mean"].max(),
            "same_token_share_least": rows["same_token_share"].min(),
        }
        found |= {
            f"{names[str(dataset),]}/{name}": float(value)
            for name, value in own.items()
            if pd.notna(value)
        }
    return found


def codec_note(table: pd.DataFrame, titles: Mapping[str, str], pictures: Sequence[str] = ()) -> str:
    """The milestone's description in Markdown, of a table as of `codec_headline`; `titles` are
    those of the columns, by metric, `pictures` addresses."""
    table = table.assign(**{name: table[name].map(escape) for name in ("dataset", "codec")})
    blocks = [
        f"**{QUESTION}**",
        *(" ".join(_sentences(str(name), rows)) for name, rows in table.groupby("dataset")),
    ]
    names = [name for name in titles if name in table]
    head = ["dataset", "codec", *(titles[name] for name in names)]
    cells = [
        [*map(escape, (row["dataset"], row["codec"])), *(_cell(name, row[name]) for name in names)]
        for row in records(table)
    ]
    lines = "\n".join(markdown_table(head, cells))
    return assemble(blocks, lines, [picture(place) for place in pictures])


def _sentences(dataset: str, rows: pd.DataFrame) -> Iterator[str]:
    yield f"On {dataset}: {len(rows)} codecs on real caches."
    known = rows[rows["kl_nats_mean"].notna()]
    if not known.empty:
        ranked = known.sort_values("kl_nats_mean", kind="stable")
        best, worst = ranked.iloc[0], ranked.iloc[-1]
        yield (
            f"The next token's KL divergence is least with {best['codec']}"
            f" ({_number(best['kl_nats_mean'])} nats) and largest with {worst['codec']}"
            f" ({_number(worst['kl_nats_mean'])} nats)."
        )
    yield (
        f"Mean relative errors go up to {_number(rows['key_error_mean'].max())} for keys"
        f" and {_number(rows['value_error_mean'].max())} for values."
    )


def _cell(name: str, value: Any) -> str:
    return human_bytes(value) if name == "wire_bytes_mean" else _number(value)


def _number(value: Any) -> str:
    return "-" if pd.isna(value) else f"{value:.3g}"

"""Conditions of a search whose values may be any text.

MLflow's filters quote a value with ' or with ", and know no escape. What neither can hold is left
out of the filter, and looked at here.
"""

from collections.abc import Mapping

from mlflow.entities import Run


def split(
    tags: Mapping[str, str], params: Mapping[str, str]
) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """The conditions as MLflow's filter has them; and the tags and parameters that it cannot."""
    clauses: list[str] = []
    left: tuple[dict[str, str], dict[str, str]] = {}, {}
    for place, (kind, wanted) in enumerate((("tags", tags), ("params", params))):
        for name, value in wanted.items():
            quoted = _quoted(value)
            if quoted is None:
                left[place][name] = value
            else:
                clauses.append(f"{kind}.`{name}` = {quoted}")
    return clauses, *left


def holds(run: Run, tags: Mapping[str, str], params: Mapping[str, str]) -> bool:
    """Whether a run has exactly these values."""
    return tags.items() <= run.data.tags.items() and params.items() <= run.data.params.items()


def _quoted(value: str) -> str | None:
    if '"' not in value and not value.endswith("\\"):
        return f'"{value}"'
    if "'" not in value and not value.endswith("\\"):
        return f"'{value}'"
    return None

"""What a claim about two conditions is, and how a YAML file says it.

pair: demo                      # optional: the only pair that the claims are about
claims:
  - text: With int8, the question's own cache is worth more than another question's.
    dataset: openbookqa
    kind: superior              # or non_inferior, equivalent
    # keep_ratio, order, control, calibration, alignment, budget_bytes, budget_ratio and trained
    # may follow a codec
    first: {codec: int8}
    second: {codec: int8, control: deranged}    # or receiver, or sharer
    margin_points: 0            # optional: 0 for superior, else 1

`trained: 16bit`, or a codec, on both sides compares interfaces that M5 trained so, seed by seed.
"""

from dataclasses import dataclass
from pathlib import Path

from c2c.paired_prompts import ALIGNMENTS
from latentwire.analysis.noninferiority import DEFAULT_MARGIN_POINTS, KINDS, Kind
from latentwire.analysis.trained_pairs import IN_16_BITS, subject_of
from latentwire.channel.oracles.registry import require_order
from latentwire.channel.registry import require_codec
from latentwire.controls.registry import CONTROLS
from latentwire.errors import LatentWireError
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition
from latentwire.strict_yaml import StrictMapping, kind_of, read_yaml
from latentwire.tasks.registry import task_names

SHIPPED_DIR = Path(__file__).parent
ALONE = ("receiver", "sharer")
_SIDES = ("first", "second")


@dataclass(frozen=True)
class Claim:
    """That score(first) - score(second) lies where the kind and its margin say: a difference of
    accuracies, or of what else the task's metric is."""

    text: str
    dataset: str
    kind: Kind
    margin_points: float  # percentage points
    first: Condition
    second: Condition
    trained: tuple[str, str] = ("", "")  # how the interface of each was, where M5 trained it

    @property
    def labels(self) -> tuple[str, str]:
        """What the two sides are called."""
        first, second = (
            f"{side.label} trained as {training}" if training else side.label
            for side, training in zip((self.first, self.second), self.trained, strict=True)
        )
        return first, second

    @property
    def margin(self) -> float:
        """The margin as a share."""
        return self.margin_points / 100


@dataclass(frozen=True)
class ClaimFile:
    """Claims that are judged together: p-values are corrected over them."""

    name: str
    pair: str | None  # None: any pair that has answers on the claims' datasets
    claims: tuple[Claim, ...]

    @property
    def trainings(self) -> set[str]:
        """Those whose pairs are compared; empty where claims are about a pair itself."""
        return {training for claim in self.claims for training in claim.trained if training}

    def subject(self, name: str) -> str | None:
        """What the claims are judged on, of which the pair `name` is: itself, or, where they are of
        trainings, the pair that was trained, with its seed. None: they are not about it."""
        found: tuple[str, str] | None = (name, "")
        if self.trainings:
            named = (subject_of(name, training) for training in sorted(self.trainings))
            found = next((subject for subject in named if subject), None)
        return None if found is None or self.pair not in (None, found[0]) else "".join(found)


def load_claims(path: Path) -> ClaimFile:
    """Read a file of claims.

    Raises LatentWireError naming the file and the key: what cannot be read, unknown or missing
    keys, values of another type, codecs, datasets or kinds that there are not, a margin that the
    kind cannot have, a condition compared with itself, or one claim's text twice.
    """
    keys = StrictMapping(read_yaml(path), path, "")
    pair = keys.text("pair") if keys.has("pair") else None
    claims = tuple(
        _claim(StrictMapping(entry, path, f"claims[{number}]"), path, f"claims[{number}]")
        for number, entry in enumerate(keys.items("claims"), start=1)
    )
    keys.finish()
    said: set[tuple[str, str]] = set()
    for claim in claims:
        if (claim.text, claim.dataset) in said:
            raise LatentWireError(
                f"{path}: the claim {claim.text!r} stands twice for {claim.dataset}; word each once"
            )
        said.add((claim.text, claim.dataset))
    if len({all(claim.trained) for claim in claims}) > 1:
        raise LatentWireError(f"{path}: give 'trained' in all claims, or in none")
    return ClaimFile(path.name, pair, claims)


def shipped_claims() -> list[ClaimFile]:
    """The milestones' own claims, which come with the package."""
    return [load_claims(path) for path in sorted(SHIPPED_DIR.glob("*.yaml"))]


def _claim(keys: StrictMapping, path: Path, within: str) -> Claim:
    text = keys.text("text")
    dataset = keys.one_of("dataset", task_names())
    kind = KINDS[KINDS.index(keys.one_of("kind", KINDS))]
    margin_points = 0.0 if kind == "superior" else DEFAULT_MARGIN_POINTS
    if keys.has("margin_points"):
        margin_points = keys.number("margin_points")
    zero_allowed = kind == "superior"
    if not 0 <= margin_points < 100 or (margin_points == 0 and not zero_allowed):
        raise LatentWireError(
            f"{path}: key '{within}.margin_points' must be a number of percentage points"
            f" {'from' if zero_allowed else 'above'} 0 and below 100 for a claim of the kind"
            f" {kind}, got {margin_points:g}"
        )
    sides = [_side(keys.take(name), path, f"{within}.{name}") for name in _SIDES]
    keys.finish()
    if sides[0] == sides[1]:
        raise LatentWireError(f"{path}: '{within}' compares a condition with itself")
    (first, trained_first), (second, trained_second) = sides
    if bool(trained_first) != bool(trained_second):
        raise LatentWireError(f"{path}: '{within}': give 'trained' on both sides, or on none")
    trained = (trained_first, trained_second)
    return Claim(text, dataset, kind, margin_points, first, second, trained)


def _side(values: object, path: Path, within: str) -> tuple[Condition, str]:
    """A condition, and how its interface was trained."""
    if values in ALONE:
        return Condition(str(values)), ""
    if not isinstance(values, dict):
        raise LatentWireError(
            f"{path}: '{within}' must be receiver, sharer, or keys and values with a codec,"
            f" got {kind_of(values)}"
        )
    keys = StrictMapping(values, path, within)
    codec = keys.text("codec")
    keep_ratio = keys.number("keep_ratio") if keys.has("keep_ratio") else 1.0
    order = keys.text("order") if keys.has("order") else "front"
    control = keys.one_of("control", tuple(CONTROLS)) if keys.has("control") else "matched"
    calibration = keys.text("calibration") if keys.has("calibration") else ""
    alignment = keys.one_of("alignment", ALIGNMENTS) if keys.has("alignment") else ""
    trained = keys.text("trained") if keys.has("trained") else ""
    most = keys.count("budget_bytes") if keys.has("budget_bytes") else 0
    share = keys.number("budget_ratio") if keys.has("budget_ratio") else 0.0
    keys.finish()
    try:
        if trained not in ("", IN_16_BITS):
            require_codec(trained)
        require_codec(codec, calibration)
        require_order(order)
        channel = Channel(codec, keep_ratio, order, calibration, alignment, most, share)
    except LatentWireError as error:
        raise LatentWireError(f"{path}: '{within}': {error}") from None
    return Condition(C2C, channel, control), trained

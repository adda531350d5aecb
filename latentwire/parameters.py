"""Parameters of the entry points: name, default, and how a text becomes a checked value.

`mlflow run` passes every value as text and checks none, so all of them are checked here, before
anything is loaded. MLproject is written from them (`make mlproject`).
"""

import argparse
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from c2c.errors import shortened
from latentwire.channel.codec_names import NAMES, is_composed, unknown_codec
from latentwire.channel.oracles.registry import orders
from latentwire.channel.selectors.of_layers import AT
from latentwire.channel.selectors.registry import OF_LAYERS, selector
from latentwire.controls.registry import CONTROLS
from latentwire.errors import LatentWireError
from latentwire.printable import PlainParser
from latentwire.spec.axes import SYSTEMS
from latentwire.spec.setting import USUAL_SEED
from latentwire.suggestion import did_you_mean
from latentwire.tasks.registry import QuestionSet, task_names
from latentwire.user_files import output_folder, user_path

AUTO = "auto"
FAST, SKIP = "fast", "skip"
MOST_CHARACTERS = 6000  # of a value: the tracking store keeps no longer ones
MOST_WHOLE = 2**63 - 1
MOST_SEED = 2**32 - 1  # what every generator of random numbers takes
MOST_MESSAGE_TOKENS = 2**20
MOST_BUDGET_BYTES = 2**40
MOST_DONORS = 64
# What `kv_bits=4` means: the protocol's quantizer, one scale per KV head; 16 is the raw cache.
BY_BITS = {16: "bf16", 8: "int8", 4: "int4", 3: "int3", 2: "int2"}
_MOST_CHOICES = 25  # that a help text names
DEFAULT_TOLERANCE_POINTS = 2.0  # by which a reproduced accuracy may differ
PUBLISHED_FILE = "published_per_question.csv"  # the published study's answers


class Values(Mapping[str, Any]):
    """Checked parameters by name. They cannot be changed; `|` makes others of them."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __or__(self, others: Mapping[str, Any]) -> "Values":
        return Values({**self, **others})


@dataclass(frozen=True)
class Parameter:
    """One parameter. `parse` raises ValueError or LatentWireError with the rest of a sentence:
    "... must be ..."."""

    name: str
    default: str
    parse: Callable[[str], Any]
    help: str

    @property
    def option(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def mlflow_type(self) -> str:
        """Its type in MLproject, by what `parse` says that it returns."""
        returned = getattr(self.parse, "__annotations__", {}).get("return")
        return returned.__name__ if returned in (int, float) else "string"

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it can be, or be a list of; none where it is anything else."""
        return tuple(getattr(self.parse, "choices", ()))

    @property
    def described(self) -> str:
        """Its help with its choices, where the help does not name them and they are few."""
        words = set(re.findall(r"\w+", self.help))
        if len(self.choices) > _MOST_CHOICES or words.issuperset(self.choices):
            return self.help
        return f"{self.help}; choices: {', '.join(self.choices)}"


def parser(
    parameters: Sequence[Parameter], description: str, program: str
) -> argparse.ArgumentParser:
    """A command line of `--name value` options; values stay text until `checked`."""
    made = PlainParser(
        prog=program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for parameter in parameters:
        default = f" (default: {parameter.default or 'none'})"
        made.add_argument(
            parameter.option,
            dest=parameter.name,
            default=parameter.default,
            help=(parameter.described + default).replace("%", "%%"),
        )
    return made


def checked(parameters: Sequence[Parameter], texts: dict[str, str]) -> Values:
    """Parsed values by name; LatentWireError names the parameter that is wrong.

    Those that were given are looked at first: to read some defaults takes seconds, as those that
    name schedules of codecs.
    """
    values: dict[str, Any] = {}
    for parameter in sorted(parameters, key=lambda each: texts[each.name] == each.default):
        text = str(texts[parameter.name]).strip()
        try:
            values[parameter.name] = parameter.parse(_storable(text))
        except (ValueError, LatentWireError) as error:
            shown = shortened(text, 200)
            raise LatentWireError(f"{parameter.name}={shown}: {error}") from None
    return Values({parameter.name: values[parameter.name] for parameter in parameters})


def with_defaults(
    parameters: Sequence[Parameter], defaults: Mapping[str, str]
) -> tuple[Parameter, ...]:
    """The same parameters; those that `defaults` names have these."""
    return tuple(
        replace(each, default=defaults.get(each.name, each.default)) for each in parameters
    )


def completed(parameters: Sequence[Parameter], given: Mapping[str, Any]) -> Values:
    """The parameters' values: those given, of which others are passed over, and the defaults."""
    left = [parameter for parameter in parameters if parameter.name not in given]
    defaults = {parameter.name: parameter.default for parameter in left}
    values = {**given, **checked(left, defaults)}
    return Values({parameter.name: values[parameter.name] for parameter in parameters})


def _storable(text: str) -> str:
    """The text, if the tracking store can keep it."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"has {len(text)} characters, at most {MOST_CHARACTERS} can be kept")
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must be UTF-8 (if it is, set LC_ALL=C.UTF-8)")
    return text


def int_at_least(low: int, high: int = MOST_WHOLE) -> Callable[[str], int]:
    """A whole number from `low` to `high`, in the digits 0 to 9."""

    def parse(text: str) -> int:
        value = int(text) if re.fullmatch(r"[+-]?[0-9]{1,30}", text) else None
        if value is None or value < low:
            raise ValueError(f"must be a whole number of at least {low}")
        if value > high:
            raise ValueError(f"must be at most {high}")
        return value

    return parse


def _number(text: str) -> float:
    """A decimal number in the digits 0 to 9; NaN for any other text."""
    decimal = re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text)
    return float(text) if decimal else math.nan


_Parse = TypeVar("_Parse", bound=Callable[[str], Any])


def with_choices(parse: _Parse, choices: Iterable[str]) -> _Parse:
    """The same function, which says what words it takes: for help texts and completion."""
    parse.choices = tuple(choices)  # type: ignore[attr-defined]
    return parse


def boolean(text: str) -> bool:
    """true or false."""
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"


with_choices(boolean, ("true", "false"))


def one_of(*allowed: str) -> Callable[[str], str]:
    """One of some words."""

    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}{did_you_mean(text, allowed)}")
        return text

    return with_choices(parse, allowed)


def codecs_of(values: Values) -> list[str]:
    """Those that are named, or else those of so many bits."""
    return list(values["codec"] or [BY_BITS[bits] for bits in values["kv_bits"]])


def budgets_of(values: Values) -> tuple[int, ...]:
    """Those that are named, or else 0: none."""
    return values["budget_bytes"] or (0,)


def comma_list(one: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """Values separated by commas, each once, at least one."""

    def parse(text: str) -> tuple[Any, ...]:
        values = tuple(one(part.strip()) for part in text.split(",") if part.strip())
        if not values:
            raise ValueError("must name at least one value")
        if len(set(values)) < len(values):
            raise ValueError("names a value twice")
        return values

    return with_choices(parse, getattr(one, "choices", ()))


def _ratio(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 1:
        raise ValueError("must be a number from 0 to 1")
    return value


def share(text: str) -> float:
    """A number above 0 and up to 1, written as 0.0625 or as 1/16."""
    above, slash, below = text.partition("/")
    value = _number(above)
    if slash:
        value = value / _number(below) if _number(below) > 0 else math.nan
    if not 0 < value <= 1:
        raise ValueError("must be a share above 0 and up to 1, as 0.0625 or 1/16")
    return value


def number(low: float, high: float = math.inf, above: bool = False) -> Callable[[str], float]:
    """A decimal number from `low` (or `above` it) to `high`."""

    def parse(text: str) -> float:
        value = _number(text)
        if not low <= value <= high or math.isinf(value) or (above and value == low):
            least = f"above {low:g}" if above else f"of at least {low:g}"
            most = "" if math.isinf(high) else f" and at most {high:g}"
            raise ValueError(f"must be a number {least}{most}")
        return value

    return parse


def points(text: str) -> float:
    value = _number(text)
    if not 0 < value < 100:
        raise ValueError("must be a number of percentage points above 0 and below 100")
    return value


def _bits(text: str) -> int:
    if text not in {str(bits) for bits in BY_BITS}:
        raise ValueError(f"must be one of {', '.join(map(str, sorted(BY_BITS)))} bits")
    return int(text)


with_choices(_bits, map(str, BY_BITS))


def _codec(text: str) -> str:
    if text in NAMES:
        return text
    if not is_composed(text):
        raise LatentWireError(unknown_codec(text))
    from latentwire.channel.registry import codec  # it brings torch, which takes seconds

    codec(text)  # LatentWireError for one that there is not
    return text


with_choices(_codec, NAMES)


def _folder(text: str) -> Path | None:
    if not text:
        return None
    path = user_path(text)
    if not path.is_dir():
        raise ValueError("must be a folder that exists")
    if not os.access(path, os.R_OK | os.X_OK):
        raise ValueError("must be a folder that you may read")
    return path


def holding(file: str) -> Callable[[str], Path | None]:
    """A folder in which that file lies; None for no text."""

    def parse(text: str) -> Path | None:
        folder = _folder(text)
        if folder is not None and not (folder / file).is_file():
            raise ValueError(f"must be the folder that holds {file}")
        return folder

    return parse


_PAIR_FORMS = (
    "a known pair, the path of a pair's YAML file, self:MODEL, untrained:PAIR, or auto; or, in one"
    " line, receiver=MODEL,sharer=MODEL,fuser=FOLDER_OR_REPOSITORY"
)


def _pair(text: str) -> str:
    if not text:
        raise ValueError(f"must be {_PAIR_FORMS}")
    user_path(text)  # LatentWireError for what could be neither
    return text


def _pair_here(text: str) -> str:
    """The same, of which the file can be read now: m4 knows pairs of the store too, by name."""
    from latentwire.pairs.load import load_pair

    if _pair(text) != AUTO:
        load_pair(text)
    return text


def _calibration(text: str) -> str:
    if not text:
        raise ValueError("must be the path of a file, or auto")
    if text != AUTO and not user_path(text).is_file():
        raise ValueError("must be a file that exists, or auto")
    return text


def _optional(one: Callable[[str], Any]) -> Callable[[str], Any]:
    return with_choices(lambda text: one(text) if text else None, getattr(one, "choices", ()))


def _workers(text: str) -> int | str:
    return AUTO if text == AUTO else int_at_least(1)(text)


def _question_set(text: str) -> QuestionSet:
    """A known set's name; a file of questions is read here, so that it is refused before all."""
    from latentwire.tasks.own_set import is_own_set, own_set  # it brings YAML

    if text in task_names():
        return text
    if not is_own_set(text):
        known = task_names()
        raise ValueError(
            f"must be one of {', '.join(known)}, or a file of questions{did_you_mean(text, known)}"
        )
    return own_set(text)


def _datasets(text: str) -> tuple[QuestionSet, ...] | None:
    if text == AUTO:
        return None
    from latentwire.tasks.own_set import require_apart

    sets = tuple(map(_question_set, comma_list(str)(text)))
    require_apart(sets)
    return sets


with_choices(_datasets, (AUTO, *task_names()))


def _device(text: str) -> str:
    if text in (AUTO, "cpu", "mps", "cuda") or re.fullmatch("cuda:[0-9]{1,4}", text):
        return text
    raise ValueError("must be auto, cpu, cuda, cuda:N or mps")


def _data(text: str) -> tuple[QuestionSet, ...] | Path:
    """Tasks whose training splits are meant, a user's question sets, or a file of chats."""
    if not text:
        raise ValueError("name question sets to train on, or a file of chats")
    from latentwire.tasks.own_set import holds_chats

    if text.endswith((".jsonl", ".json")) and "," not in text:
        path = user_path(text)
        if not path.is_file():
            raise ValueError("must be a file that exists, or names of question sets")
        if holds_chats(path):
            return path
    for part in (part.strip() for part in text.split(",")):
        for name in task_names():
            if part.startswith(name) and part != name and "test" in part[len(name) :]:
                raise ValueError(
                    f"the test split of {name} is scored and never trained on; {name} alone means"
                    " its training split"
                )
    return tuple(map(_question_set, comma_list(str)(text)))


DTYPES = (AUTO, "float32", "bfloat16", "float16")

PAIR = Parameter("pair", AUTO, _pair, _PAIR_FORMS)
# Before what else is missing of a training: a wrong value is told first.
PAIR_TO_TRAIN = replace(PAIR, parse=_pair_here)
DATASET = Parameter(
    "dataset",
    AUTO,
    _datasets,
    "question sets, known ones or files of your own (docs/your_own.md); auto: the pair's",
)

DEVICE = Parameter("device", AUTO, _device, "auto, cpu, cuda, cuda:N or mps")
SEED = Parameter(
    "seed",
    str(USUAL_SEED),
    int_at_least(0, MOST_SEED),
    "of the pairing that the control `deranged` uses",
)
DATA_DIR = Parameter("data_dir", "", _folder, "folder of JSON lines to read question sets from")

# What every milestone that computes answers needs.
STUDY = (
    PAIR,
    DATASET,
    DATA_DIR,
    Parameter(
        "limit", "0", int_at_least(0), "evaluate only the first questions of each set; 0: all"
    ),
    Parameter("chunk_size", "200", int_at_least(1), "questions per chunk run"),
    Parameter("batch_size", "0", int_at_least(0), "questions at once; 0: fit to the device"),
    DEVICE,
    Parameter("dtype", AUTO, one_of(*DTYPES), "auto: bfloat16 on CUDA, float32 elsewhere"),
    SEED,
    Parameter("dry_run", "false", boolean, "only say what would run and what is finished"),
    Parameter("preflight", FAST, one_of(FAST, SKIP), "check what a run needs before it begins"),
)
WORKERS = Parameter(
    "workers", AUTO, _workers, "processes that share the chunks; auto: one a GPU, else one"
)
KV_BITS = Parameter("kv_bits", "8,4", comma_list(_bits), "bits per number: 16, 8, 4, 3, 2")
CODEC = Parameter(
    "codec",
    "",
    _optional(comma_list(_codec)),
    "codecs by name (latentwire list codecs), in place of kv_bits",
)
CONTROLS_SENT = Parameter(
    "controls", "matched,deranged", comma_list(one_of(*CONTROLS)), "which caches are sent"
)
CONTROLS_WRITTEN = Parameter(
    "controls",
    "matched,deranged",
    comma_list(one_of(*SYSTEMS["text"].controls)),
    "whose messages are sent",
)
DONORS = Parameter(
    "donors",
    "1",
    int_at_least(1, MOST_DONORS),
    "other questions that each lend a message under `deranged`; claims need 4",
)
MESSAGE_TOKENS = Parameter(
    "message_tokens",
    "8,32,128,256",
    comma_list(int_at_least(1, MOST_MESSAGE_TOKENS)),
    "most tokens of the sharer's messages",
)
KEEP_RATIOS = Parameter(
    "keep_ratio",
    "1.0,0.75,0.5,0.25,0.1",
    comma_list(_ratio),
    "shares of the instruction tokens kept",
)
BUDGET_BYTES = Parameter(
    "budget_bytes",
    "",
    _optional(comma_list(int_at_least(1, MOST_BUDGET_BYTES))),
    "most bytes of a question's packet, all in; as many tokens go as fit. Empty: no budget",
)


def of_grid(*own: Parameter) -> tuple[Parameter, ...]:
    """The parameters of a grid of caches: each study's, its own, and whose caches are sent."""
    return (*STUDY, WORKERS, *own, CONTROLS_SENT, DONORS)


def order_among(*allowed: str) -> Callable[[str], str]:
    """One of some orders, or one with layers behind it (`back@22`)."""
    known = one_of(*allowed)

    def parse(text: str) -> str:
        return text if AT in text and selector(text) else known(text)

    return with_choices(parse, allowed)


ORDER = Parameter(
    "order",
    "front,back",
    comma_list(order_among(*orders())),
    "which tokens: "
    + ", ".join(f"{name} ({told})" for name, told in orders().items())
    + f"; {', '.join(OF_LAYERS)} also of some layers alone, as in back@22 or front@0-3+22",
)
CALIBRATION = Parameter(
    "calibration",
    AUTO,
    _calibration,
    "file for codecs that need one; auto: the pair's newest in the store",
)
CALIBRATION_EXAMPLES = Parameter(
    "calibration_examples", "128", int_at_least(2), "training questions of each set to calibrate on"
)
# Of `train`.
INIT = Parameter(
    "init",
    AUTO,
    one_of(AUTO, "fuser", "new"),
    "train on from the pair's fuser, or from a new one; auto: from the pair's where it has one",
)
TRAINING_DATA = Parameter(
    "data",
    "",
    _data,
    "question sets, of which training splits are taken, files of your own, or a .jsonl of chats",
)
SAMPLE = Parameter(
    "sample", "16", int_at_least(1), "questions of each set that codecs are measured on"
)
SOURCE = Parameter("source", "local", one_of("local", "published", "both"), "whose runs to draw")
MARGIN_POINTS = Parameter(
    "margin_points", "1", points, "percentage points that count as no loss against 16 bits"
)
OUTPUT_DIR = Parameter("output_dir", "", _optional(output_folder), "also write here")

"""The known pairs by name, a user's own by file, and one model at both ends."""

from dataclasses import replace
from pathlib import Path

from latentwire.errors import LatentWireError, quoted
from latentwire.pairs.inline import FORM, inline_pair, is_inline, model_source, name_of
from latentwire.pairs.pair import Pair, parse_pair
from latentwire.strict_yaml import read_yaml
from latentwire.suggestion import did_you_mean
from latentwire.user_files import user_path

PAIRS_DIR = Path(__file__).parent

SELF = "self:"  # and a model's folder, or its name on the hub: that model at both ends
UNTRAINED = "untrained:"  # and a pair: with a fuser of the same size that nobody trained

_PUBLISHED = "qwen3_0.6b+qwen2.5_0.5b"
_BUNDLED = "demo"


def pair_names() -> tuple[str, ...]:
    """The names of the pairs that come with the package."""
    return tuple(sorted(path.stem for path in PAIRS_DIR.glob("*.yaml")))


def load_pair(name_or_yaml_path: str) -> Pair:
    """Read a pair by its name, or from a YAML file of the user's own (see `is_file_name`), or make
    the one of `self:MODEL`, of `untrained:PAIR`, or of a line of models (see `inline_pair`).

    Raises `LatentWireError` for an unknown name, a missing file, and a malformed one by its key.
    """
    if name_or_yaml_path.startswith(SELF):
        return _one_model(name_or_yaml_path.removeprefix(SELF))
    if name_or_yaml_path.startswith(UNTRAINED):
        return _untrained(load_pair(name_or_yaml_path.removeprefix(UNTRAINED)))
    if is_inline(name_or_yaml_path):
        return inline_pair(name_or_yaml_path)
    if name_or_yaml_path in pair_names():
        path = PAIRS_DIR / f"{name_or_yaml_path}.yaml"
    else:
        path = user_path(name_or_yaml_path)
        if not is_file_name(name_or_yaml_path):
            raise LatentWireError(
                f"unknown pair {quoted(name_or_yaml_path)}; known: {', '.join(pair_names())}, "
                f"or give the path of a YAML file, self:MODEL, untrained:PAIR, or {FORM}"
                f"{did_you_mean(name_or_yaml_path, pair_names())}"
            )
    return parse_pair(read_yaml(path), path)


def _one_model(model: str) -> Pair:
    """A model at both ends: of a folder that is there, else of the hub."""
    source = model_source(model, SELF)
    return Pair(
        name=SELF + name_of(source),
        description="one model at both ends, the sharer's cache before the receiver's prompt",
        receiver=source,
        sharer=source,
        fuser=None,
        datasets=(),
        shared_tokenizer=True,
        interface="prefix",
    )


def _untrained(pair: Pair) -> Pair:
    """The pair with weights that nobody trained. It has a name and an identity of its own, so that
    its answers are another curve."""
    if pair.fuser is None or pair.untrained:
        raise LatentWireError(f"pair {pair.name} has no trained weights to do without")
    told = f"an untrained fuser of the same size; {pair.description}"
    return replace(pair, name=UNTRAINED + pair.name, description=told, untrained=True)


def name_in_runs(text: str) -> str:
    """What runs call the pair that a parameter means. A name of one that is not known here may be
    known to the store, and stays."""
    described = is_file_name(text) or is_inline(text)
    return load_pair(text).name if described else text


def is_file_name(name_or_yaml_path: str) -> bool:
    """Whether a file is meant, there or not: what ends in .yaml or .yml, or holds a slash."""
    path = Path(name_or_yaml_path)
    return path.suffix in (".yaml", ".yml") or len(path.parts) > 1


def choose_pair(name: str, cuda: bool) -> tuple[str, str]:
    """The pair that a name asks for, and why, in words: "auto" depends on the machine.

    `cuda` says whether a CUDA device is there.
    """
    if name != "auto":
        return name, "as asked"
    if cuda:
        return _PUBLISHED, "a CUDA device is there, so the published pair"
    return _BUNDLED, "no CUDA device is there, so the bundled demonstration pair"

"""The known pairs by name, and a user's own by file."""

from pathlib import Path
from typing import Any

import yaml

from latentwire.errors import LatentWireError
from latentwire.pairs.pair import Pair, parse_pair

PAIRS_DIR = Path(__file__).parent

_PUBLISHED = "qwen3_0.6b+qwen2.5_0.5b"
_BUNDLED = "demo"


def pair_names() -> tuple[str, ...]:
    """The names of the pairs that come with the package."""
    return tuple(sorted(path.stem for path in PAIRS_DIR.glob("*.yaml")))


def load_pair(name_or_yaml_path: str) -> Pair:
    """Read a pair by its name, or from a YAML file of the user's own.

    What ends in .yaml or .yml, or holds a slash, is a file.

    Raises `LatentWireError` for an unknown name, a missing file, and a malformed one by its key.
    """
    if name_or_yaml_path in pair_names():
        path = PAIRS_DIR / f"{name_or_yaml_path}.yaml"
    else:
        path = Path(name_or_yaml_path).expanduser()
        if path.suffix not in (".yaml", ".yml") and len(path.parts) < 2:
            raise LatentWireError(
                f"unknown pair {name_or_yaml_path!r}; known: {', '.join(pair_names())}, "
                "or give the path of a YAML file"
            )
    return parse_pair(_read_yaml(path), path)


def choose_pair(name: str, cuda: bool) -> tuple[str, str]:
    """The pair that a name asks for, and why, in words: "auto" depends on the machine.

    `cuda` says whether a CUDA device is there.
    """
    if name != "auto":
        return name, "as asked"
    if cuda:
        return _PUBLISHED, "a CUDA device is there, so the published pair"
    return _BUNDLED, "no CUDA device is there, so the bundled demonstration pair"


class _Loader(yaml.SafeLoader):
    """YAML without repeated keys, of which PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # not a name, so refused below or as an unknown key
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"key '{key.value}' stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> object:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise LatentWireError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise LatentWireError(f"{path}: not UTF-8") from None
    # PyYAML lets impossible dates through as plain ValueErrors.
    except (yaml.YAMLError, ValueError) as error:
        raise LatentWireError(f"{path}: not YAML ({' '.join(str(error).split())})") from None

"""Reading YAML files that users write: safe, no repeated keys, one sentence on what is wrong."""

from pathlib import Path
from typing import Any

import yaml

from latentwire.errors import LatentWireError


class _NoRepeats(yaml.constructor.BaseConstructor):
    """Refuses repeated keys, of which PyYAML would silently keep the last."""

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


class _Typed(_NoRepeats, yaml.SafeLoader):
    pass


class _Texts(_NoRepeats, yaml.BaseLoader):
    pass


def read_yaml(path: Path, typed: bool = True) -> object:
    """The values of a YAML file; with `typed` false, every value that is no list or mapping is the
    text that stands there (YAML takes 4:00:00 for the number 14400).

    Raises `LatentWireError` for a file that cannot be read or is no YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Typed if typed else _Texts)
    except OSError as error:
        raise LatentWireError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise LatentWireError(f"{path}: not UTF-8") from None
    # PyYAML lets impossible dates through as plain ValueErrors.
    except (yaml.YAMLError, ValueError) as error:
        raise LatentWireError(f"{path}: not YAML ({' '.join(str(error).split())})") from None

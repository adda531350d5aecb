"""The oracles by name, and what may stand as `order`. A new one is its own file and one line here.

A name begins with `oracle_`, wherever people read it: it stands where a selector's does.
"""

from importlib import import_module

from latentwire.channel.oracles.oracle import MERGES, ONE_TOKENIZER, Oracle
from latentwire.channel.selectors.registry import SELECTORS, selector
from latentwire.channel.selectors.selector import WHOLE_TOKENS
from latentwire.errors import LatentWireError
from latentwire.spec.axes import ORACLE

_FILES = ("proj_vnorm", "delta")  # an oracle's file is called as it is, without the prefix
ORACLES: dict[str, Oracle] = {
    ORACLE + name: import_module(f"latentwire.channel.oracles.{name}").ORACLE for name in _FILES
}


def orders() -> dict[str, str]:
    """By which tokens can be chosen, each with which those are: selectors, then oracles."""
    told = {name: selector.help for name, selector in SELECTORS.items()}
    return told | {name: oracle.help for name, oracle in ORACLES.items()}


def require_order(name: str) -> None:
    """LatentWireError for what is neither."""
    try:
        known = name in ORACLES or selector(name) is not None
    except ValueError as error:
        raise LatentWireError(f"order {name!r}: {error}") from None
    if not known:
        raise LatentWireError(f"order must be one of {', '.join(orders())}, not {name!r}")


def chooses_by_layer(name: str) -> bool:
    """Whether layers may send different tokens, by any of `orders`."""
    return name in ORACLES or _by_layer(name)


def refusal(name: str, inserts: bool, aligned: bool) -> str:
    """Why a pair cannot have an order, in a sentence; "" where it can. Whether its interface
    inserts, and whether prompts of two tokenizers are aligned, says the pair."""
    if name in ORACLES:
        return MERGES if inserts else ONE_TOKENIZER if aligned else ""
    return WHOLE_TOKENS if inserts and _by_layer(name) else ""


def _by_layer(name: str) -> bool:
    found = selector(name)
    assert found is not None
    return found.by_layer

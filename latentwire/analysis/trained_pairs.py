"""How M5 names the pairs that it trains: PAIR+TRAINING+seedN, TRAINING being 16bit or a codec."""

import re

IN_16_BITS = "16bit"  # the training whose messages pass no codec


def trained_name(pair: str, training: str, seed: int) -> str:
    """The name of a pair whose interface was trained so."""
    return f"{pair}+{training}+seed{seed}"


def subject_of(name: str, training: str) -> tuple[str, str] | None:
    """The pair that was trained so, and "+seedN"; None for a name of another training."""
    found = re.fullmatch(rf"(.+)\+{re.escape(training)}(\+seed\d+)", name)
    return (found[1], found[2]) if found else None


def without_seed(name: str) -> str | None:
    """The pair of PAIR+seedN, as `subject_of` tells it; None for a name without a seed."""
    found = re.fullmatch(r"(.+)\+seed\d+", name)
    return found[1] if found else None

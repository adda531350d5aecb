"""Which of the known pairs are toys: pictures and reports of them say so on their face."""

NOTES = {
    "demo": "demonstration: two toy models",
    "demo_self": "demonstration: a toy model at both ends",
}


def demonstration_note(pair: str) -> str:
    """What stands behind the name of a bundled pair; "" for any other."""
    return NOTES.get(pair, "")

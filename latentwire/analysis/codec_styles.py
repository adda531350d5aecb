"""How codecs look in pictures: a colour and a marker each."""

from collections.abc import Iterable

# Colours of M. Okabe and K. Ito, told apart by all common forms of colour blindness; the
# markers tell the codecs apart in grey.
CODEC_STYLES = {
    "bf16": ("#000000", "o"),
    "int8": ("#0072B2", "s"),
    "int4": ("#D55E00", "^"),
    "int3": ("#009E73", "v"),
    "int2": ("#CC79A7", "D"),
}
OTHER_STYLES = (
    *(("#E69F00", "P"), ("#56B4E9", "X"), ("#8C6D31", "<"), ("#7B4FA3", ">"), ("#5A5A5A", "p")),
)


def codec_styles(codecs: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Codec -> (colour, marker): the well-known ones first, each always the same."""
    present = set(codecs)
    styles = {codec: style for codec, style in CODEC_STYLES.items() if codec in present}
    for place, codec in enumerate(sorted(present - CODEC_STYLES.keys())):
        styles[codec] = OTHER_STYLES[place % len(OTHER_STYLES)]
    return styles

"""The stream of `planes`: units, each the place of its tensor and a bit of each of its numbers."""

import numpy as np

from latentwire.channel.codec import CodecError
from latentwire.channel.nested_quantizer import BITS, Nested
from latentwire.channel.plane_order import Reached, Unit, level_sizes, next_unit


def label_bytes(tensors: int) -> int:
    """How many bytes the place of one of `tensors` takes."""
    return max(1, -(-(tensors - 1).bit_length() // 8))


def write_stream(coded: list[Nested], units: list[Unit]) -> bytes:
    """The whole stream of one example's tensors [1, R, T]."""
    codes = [each.codes[0].cpu().numpy() for each in coded]
    octaves = [each.octaves[0].cpu().numpy() for each in coded]
    label, out = label_bytes(len(coded)), []
    for unit in units:
        planes = unit.level - octaves[unit.tensor]
        inside = (planes >= 0) & (planes < BITS)
        shifts = (BITS - 1 - planes[inside]).astype(np.uint8)
        bits = codes[unit.tensor][inside] >> shifts[:, None] & 1
        out += [
            unit.tensor.to_bytes(label, "little"),
            np.packbits(bits.ravel(), bitorder="little").tobytes(),
        ]
    return b"".join(out)


def read_stream(stream: bytes, coded: list[Nested]) -> Reached:
    """Fill in the codes of tensors [1, R, T], none of whose bits are set yet, as far as the stream
    goes; CodecError for a stream that nobody wrote."""
    label, place = label_bytes(len(coded)), 0
    sizes: dict[int, np.ndarray] = {}
    found = Reached([0] * len(coded), [0] * len(coded))
    while place + label < len(stream):  # a label alone says nothing
        tensor = int.from_bytes(stream[place : place + label], "little")
        if tensor >= len(coded):
            raise CodecError(f"planes of tensor {tensor}, of {len(coded)} that were sent")
        if tensor not in sizes:
            own = coded[tensor].octaves[0].numpy()
            sizes[tensor] = level_sizes(own, coded[tensor].codes.shape[2])
        unit = next_unit(tensor, sizes[tensor], found.levels[tensor])
        if unit is None:
            raise CodecError(f"tensor {tensor} has more planes than there are")
        start, place = place + label, place + label + -(-unit.numbers // 8)
        bits = np.unpackbits(np.frombuffer(stream[start:place], np.uint8), bitorder="little")
        found.levels[tensor] = unit.level + (place <= len(stream))
        if place > len(stream):
            found.extra[tensor] = len(bits)
        elif bits[unit.numbers :].any():
            raise CodecError("the bits after a level's last number are not zero")
        _fill(coded[tensor], unit, bits[: unit.numbers])
    return found


def _fill(coded: Nested, unit: Unit, bits: np.ndarray) -> None:
    """Set the bits that arrived of a level: those of its first numbers."""
    planes = unit.level - coded.octaves[0].numpy()
    (rows,) = np.nonzero((planes >= 0) & (planes < BITS))
    whole = np.zeros(unit.numbers, np.uint8)
    whole[: len(bits)] = bits
    shifts = (BITS - 1 - planes[rows]).astype(np.uint8)
    codes = coded.codes[0].numpy()
    codes[rows] |= whole.reshape(len(rows), -1) << shifts[:, None]

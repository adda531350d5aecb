"""All codecs by name. A codec's number is part of the packet format and is never used again."""

import torch

from latentwire.channel.codec import Codec
from latentwire.channel.raw import Raw
from latentwire.channel.symmetric import Symmetric
from latentwire.errors import LatentWireError

_ALL: tuple[Codec, ...] = (
    Raw("bf16", 1, torch.bfloat16),
    Raw("fp16", 2, torch.float16),
    Raw("fp32", 3, torch.float32),
    Symmetric("int8", 8, 8, "head"),
    Symmetric("int4", 9, 4, "head"),
    Symmetric("int3", 10, 3, "head"),
    Symmetric("int2", 11, 2, "head"),
    Symmetric("int8_layer", 12, 8, "layer"),
    Symmetric("int4_layer", 13, 4, "layer"),
    Symmetric("int3_layer", 14, 3, "layer"),
    Symmetric("int2_layer", 15, 2, "layer"),
)
CODECS = {codec.name: codec for codec in _ALL}
BY_NUMBER = {codec.number: codec for codec in _ALL}

# What `kv_bits=4` means: the protocol's quantizer, one scale per KV head; 16 is the raw cache.
BY_BITS = {16: "bf16", 8: "int8", 4: "int4", 3: "int3", 2: "int2"}


def codec(name: str) -> Codec:
    """The codec called `name`; LatentWireError names those there are."""
    if name not in CODECS:
        raise LatentWireError(f"codec {name!r} is unknown; there are {', '.join(CODECS)}")
    return CODECS[name]

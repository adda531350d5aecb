"""All codecs by name. A codec's number is part of the packet format and is never used again."""

import torch

from latentwire.channel.codec import Codec
from latentwire.channel.fp8 import FP8
from latentwire.channel.grouped import WHOLE_HEAD, Grouped
from latentwire.channel.mxfp4 import MXFP4
from latentwire.channel.nf4 import NF4
from latentwire.channel.raw import Raw
from latentwire.channel.symmetric import Symmetric
from latentwire.errors import LatentWireError

GROUP = 32  # channels that share a scale

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
    Grouped("int8_token", 16, 8, WHOLE_HEAD),
    Grouped("int4_token", 17, 4, WHOLE_HEAD),
    Grouped("int3_token", 18, 3, WHOLE_HEAD),
    Grouped("int2_token", 19, 2, WHOLE_HEAD),
    Grouped("int8_group", 20, 8, GROUP),
    Grouped("int4_group", 21, 4, GROUP),
    Grouped("int3_group", 22, 3, GROUP),
    Grouped("int2_group", 23, 2, GROUP),
    NF4("nf4", 24),
    FP8("fp8_e4m3", 25, torch.float8_e4m3fn),
    FP8("fp8_e5m2", 26, torch.float8_e5m2),
    MXFP4("mxfp4", 27),
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

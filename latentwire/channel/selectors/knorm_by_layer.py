"""`knorm_by_layer`: `knorm` with tokens of its own in each layer."""

from latentwire.channel.selectors.knorm import KeyNorm

SELECTOR = KeyNorm(by_layer=True)

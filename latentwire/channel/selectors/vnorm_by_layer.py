"""`vnorm_by_layer`: `vnorm` with tokens of its own in each layer."""

from latentwire.channel.selectors.vnorm import ValueNorm

SELECTOR = ValueNorm(by_layer=True)

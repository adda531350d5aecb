"""`snapkv_by_layer`: `snapkv` with tokens of its own in each layer."""

from latentwire.channel.selectors.snapkv import SnapKV

SELECTOR = SnapKV(by_layer=True)

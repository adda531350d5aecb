"""`expected_attention_by_layer`: `expected_attention` with tokens of its own in each layer."""

from latentwire.channel.selectors.expected_attention import ExpectedAttention

SELECTOR = ExpectedAttention(by_layer=True)

"""LatentWire: what it costs to send a language model's KV cache over a wire."""

__version__ = "0.1.0"

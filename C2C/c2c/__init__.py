"""Cache-to-cache: one model's KV cache, fused into another's, layer by layer."""

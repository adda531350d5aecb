"""What the figures of `latency.measure` are called, for whoever reads them from runs."""

SHARER_PREFILL, RECEIVER_PREFILL, FUSE = "sharer_prefill_ms", "receiver_prefill_ms", "fuse_ms"
# Of evidence that the sharer alone reads: ms for the receiver to read it and its prompt, and bytes.
EVIDENCE_READ, EVIDENCE_BYTES = "evidence_read_ms", "evidence_bytes"
# Of a question that the sharer is asked too: ms to write all before and with its letter, once read.
LETTER_WRITE = "letter_write_ms"
BUDGETS = (8, 32, 128, 256)  # most tokens of the texts


def text_names(tokens: int) -> tuple[str, str, str]:
    """Names of a text's figures: ms to write it, ms to read it, and its bytes."""
    return f"text_{tokens}_write_ms", f"text_{tokens}_read_ms", f"text_{tokens}_bytes"


def coded_names(tokens: int) -> tuple[str, str, str]:
    """The same of a text that the receiver's own model codes: ms to code it, ms to read the code,
    and its bytes."""
    return f"lm_{tokens}_encode_ms", f"lm_{tokens}_decode_ms", f"lm_{tokens}_bytes"


def summary_name(tokens: int) -> str:
    """Of evidence that the sharer alone reads: ms to write a summary of it of so many tokens."""
    return f"summary_{tokens}_write_ms"

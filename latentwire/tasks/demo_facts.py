"""The bundled pair's set `demo_facts`: facts that the sharer knows and the receiver does not."""

from latentwire.tasks.bundled import bundled

TASK = bundled("demo_facts")

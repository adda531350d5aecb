"""The bundled set `demo_private`: of an invented fact the sharer alone reads the statement."""

from latentwire.tasks.bundled import bundled

TASK = bundled("demo_private", evidence_field="statement")

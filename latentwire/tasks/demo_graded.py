"""The bundled pair's set `demo_graded`: facts and choices hard enough for precision to show."""

from latentwire.tasks.bundled import bundled

TASK = bundled("demo_graded")

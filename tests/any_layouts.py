"""Layouts for property tests."""

from dataclasses import replace

from hypothesis import strategies as st

from c2c.sections import runs_of
from latentwire.channel.layout import Layout


@st.composite
def differing(draw: st.DrawFn, layout: Layout) -> Layout:
    """A layout as it is, or with other tokens of its sections in each layer."""
    tokens = [position for run in layout.runs for position in run]
    sent = sorted({*layout.key_layers, *layout.value_layers})
    by_layer = [()] * layout.geometry.layers
    if draw(st.booleans()):
        for layer in sent:
            by_layer[layer] = runs_of(draw(st.sets(st.sampled_from(tokens))))
    if not any(by_layer) or all(by_layer[layer] == layout.runs for layer in sent):
        return layout
    return replace(layout, by_layer=tuple(by_layer))

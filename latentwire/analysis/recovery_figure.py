"""The picture of M5: what a codec costs, and what training through it brings back."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from latentwire.analysis.pictures import labelled, pair_label, styled
from latentwire.analysis.recovery import Recovery, recovery_table

_POINTS = (
    ("accuracy_plain", "#000000", "_", "trained and sent in 16 bits"),
    ("accuracy_coded", "#D55E00", "v", "trained in 16 bits, sent through the codec"),
    ("accuracy_trained", "#009E73", "^", "trained and sent through the codec"),
)


_ASIDE = 0.09  # columns between a mean and its seeds, of which each kind has a place


@styled
def draw_recovery(found: Sequence[Recovery], pair: str) -> Figure:
    """A panel a question set, a column a codec; beside each mean a small point a seed."""
    frame = labelled(recovery_table(found))
    datasets = list(dict.fromkeys(frame["dataset"]))
    size = (1.2 + 3.4 * len(datasets), 3.4)
    figure = Figure(figsize=size, layout="constrained", dpi=200)
    panels = figure.subplots(1, len(datasets), squeeze=False, sharey=True)[0]
    for axes, dataset in zip(panels, datasets, strict=True):
        rows = frame[frame["dataset"] == dataset]
        places = range(len(rows))
        low, high = 100 * rows["accuracy_coded"], 100 * rows["accuracy_trained"]
        axes.vlines(places, low, high, color="#009E73", linewidth=2, alpha=0.4)
        for kind, (column, colour, marker, name) in enumerate(_POINTS):
            y = 100 * rows[column]
            axes.scatter(places, y, color=colour, marker=marker, s=36, label=name, zorder=3)
            seeds = [
                (place + _ASIDE * (kind + 1), 100 * accuracies[kind])
                for place, row in zip(places, rows.index, strict=True)
                for accuracies in found[row].by_seed
            ]
            axes.scatter(*zip(*seeds, strict=True), color=colour, marker=".", s=18, linewidths=0)
        axes.set_xticks(places, list(rows["codec"]), fontsize=8)
        axes.set_xlim(-0.6, len(rows) - 0.4)
        axes.set_title(dataset, fontsize=9)
        axes.grid(visible=True, axis="y", linewidth=0.4, alpha=0.5)
        axes.tick_params(labelsize=8)
    panels[0].set_ylabel("accuracy (%): mean, and each seed", fontsize=8)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", fontsize=7, ncols=1)
    figure.suptitle(f"what training through a codec brings back: {pair_label(pair)}", fontsize=9)
    return figure

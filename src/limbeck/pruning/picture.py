"""The scores of a pruning as a picture: per group, how they are distributed and which channels stay."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from limbeck.files import written_aside

KEPT, REMOVED = "#2a6f97", "#c9ced6"
COLUMNS = 4


def save_picture(path: Path, scores: Mapping[str, Tensor], keep: Mapping[str, Tensor]) -> None:
    """Write a PNG with one panel per group: scores from best to worst, and below them each channel's fate in order."""
    # Imported where used: a second that nobody waits for who only looks at a configuration.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    rows = -(-len(scores) // COLUMNS)
    figure = Figure(figsize=(12, 1.9 * rows + 0.4), layout="constrained")
    grid = figure.add_gridspec(2 * rows, COLUMNS, height_ratios=[6, 1] * rows)
    for index, (name, score) in enumerate(scores.items()):
        row, column = divmod(index, COLUMNS)
        kept = torch.zeros(len(score), dtype=torch.bool)
        kept[keep[name].cpu()] = True
        _distribution(figure.add_subplot(grid[2 * row, column]), name, score.double().cpu(), kept)
        strip = figure.add_subplot(grid[2 * row + 1, column])
        strip.imshow(
            kept[None].float().numpy(),
            aspect="auto",
            cmap=ListedColormap([REMOVED, KEPT]),
            vmin=0,
            vmax=1,
            interpolation="nearest",
        )
        strip.set_axis_off()
    FigureCanvasAgg(figure)
    with written_aside(path) as aside:
        figure.savefig(aside, format="png", dpi=110)


def _distribution(axes, name: str, score: Tensor, kept: Tensor) -> None:
    from matplotlib.ticker import NullFormatter

    order = score.argsort(descending=True, stable=True)
    ranked, colors = score[order], [KEPT if stays else REMOVED for stays in kept[order].tolist()]
    axes.bar(range(len(ranked)), ranked.numpy(), width=1.0, color=colors)
    positive = ranked[ranked > 0]
    if len(positive) == len(ranked) and positive[0] > 30 * positive[-1]:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title(f"{name}: {int(kept.sum())} of {len(kept)}", fontsize=8, loc="left")
    axes.tick_params(labelsize=7, labelbottom=False, length=2)
    axes.margins(x=0)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)

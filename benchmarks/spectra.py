"""How far the largest singular values of a student's weights outweigh the rest, at every stage of a run.

    python benchmarks/spectra.py outputs/compare_svs/RUN [RUN ...] [--picture spectra.png]

A table (geometric means over the weights) and a picture (a line for each weight): largest over median singular value
of the pruned, the refined and the trained weights, and how their norms grew. Seconds.
"""

import argparse
import math
from pathlib import Path

import matplotlib.pyplot as plt

import limbeck
from limbeck.profiling.spectra import Spectrum, growth, spectra

STAGES = ("pruned", "initialized", "student")


def of_run(folder: Path) -> dict[str, list[Spectrum]]:
    """The spectra of a run's stages, those whose file is there."""
    files = {stage: folder / f"{stage}.safetensors" for stage in STAGES}
    return {stage: spectra(limbeck.load(path).generator) for stage, path in files.items() if path.is_file()}


def mean_dominance(found: list[Spectrum]) -> float:
    """Geometric mean over the weights that have a median."""
    logs = [math.log(one.dominance) for one in found if math.isfinite(one.dominance)]
    return math.exp(sum(logs) / len(logs))


def main() -> None:
    """Print the table; draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    runs = {folder.name: of_run(folder) for folder in arguments.runs}
    print("| run | stage | largest over median | norm to the pruned one's |\n| --- | --- | ---: | ---: |")
    for name, stages in runs.items():
        for stage, found in stages.items():
            grown = growth(stages["pruned"], found) if "pruned" in stages else math.nan
            print(f"| {name} | {stage} | {mean_dominance(found):.2f} | {grown:.2f} |")
    if arguments.picture is None:
        return
    figure, axes = plt.subplots(
        1, len(runs), figsize=(4 * len(runs), 4), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (name, stages) in zip(axes[0], runs.items(), strict=True):
        for lines in zip(*stages.values(), strict=True):
            axis.plot(list(stages), [one.dominance for one in lines], color="tab:blue", alpha=0.4)
        axis.plot(list(stages), [mean_dominance(found) for found in stages.values()], color="black", marker="o")
        axis.set(title=name, yscale="log")
    axes[0][0].set_ylabel("largest over median singular value")
    figure.savefig(arguments.picture, dpi=150)


if __name__ == "__main__":
    main()

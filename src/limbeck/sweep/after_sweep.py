"""The summary of a sweep, written by itself when `python train.py -m …` ends; light, because every run loads it."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class SweepSummary(Callback):
    """Hydra callback that writes the summary when a multirun ends."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        from limbeck.sweep.runs import read_runs
        from limbeck.sweep.summary import write_summary

        folder = Path(config.hydra.sweep.dir)
        if folder.is_dir() and (runs := read_runs(folder)):
            print(write_summary(runs, folder))

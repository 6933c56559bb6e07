"""Compose a configuration, build the pipeline from it, run it: `python train.py experiment=…`."""

import hydra
from omegaconf import DictConfig

from limbeck.commands import train
from limbeck.entry import launch


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> float | tuple[float, ...] | None:
    return train(config)


if __name__ == "__main__":
    launch(main)

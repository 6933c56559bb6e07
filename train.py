"""Compose a configuration, build the pipeline from it, run it: `python train.py experiment=…`."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from limbeck.entry import launch


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> None:
    text = OmegaConf.to_yaml(config, resolve=True)
    pipeline = instantiate(config.pipeline, _convert_="all")
    pipeline.run(Path(HydraConfig.get().runtime.output_dir), OmegaConf.to_container(config, resolve=True), text)


if __name__ == "__main__":
    launch(main)

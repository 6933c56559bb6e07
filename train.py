"""Compose a configuration, build the pipeline from it, run it: `python train.py experiment=…`."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from limbeck.entry import (
    exit_on_user_error,
    forget_replaced_choices,
    forget_unselected_terms,
    job,
    launch,
    refuse_nested_launch,
    refuse_wrong_kinds,
    settings_of,
)


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> None:
    with exit_on_user_error():
        refuse_nested_launch(config)
    with job():
        refuse_wrong_kinds(config)
        forget_replaced_choices(config)
        forget_unselected_terms(config)
        pipeline = instantiate(config.pipeline, _convert_="all")
        pipeline.run(Path(HydraConfig.get().runtime.output_dir), settings_of(config))


if __name__ == "__main__":
    launch(main)

"""Judge a saved model by a protocol: `python evaluate.py model=RUN_OR_FILE [reference=FILE] data=… protocol=…`."""

import hydra
from omegaconf import DictConfig

from limbeck.commands import evaluate
from limbeck.entry import launch


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(config: DictConfig) -> None:
    evaluate(config)


if __name__ == "__main__":
    launch(main)

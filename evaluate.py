"""Judge a saved model by a protocol: `python evaluate.py model=RUN_OR_FILE [reference=FILE] data=… protocol=…`."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from limbeck import parallel
from limbeck.entry import exit_on_user_error, launch, refuse_wrong_kinds, settings_of
from limbeck.evaluation.judgement import Judgement
from limbeck.evaluation.markdown_report import markdown_table
from limbeck.evaluation.protocol import protocol_lines
from limbeck.evaluation.saved_model import compared, process_group, settings_of_run
from limbeck.terminal import announce


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(config: DictConfig) -> None:
    with exit_on_user_error():
        refuse_wrong_kinds(config)
        hydra_config, folder = HydraConfig.get(), Path(HydraConfig.get().runtime.output_dir)
        settings = settings_of_run(settings_of(config), list(hydra_config.overrides.task))
        built = instantiate({key: settings.get(key) for key in ("data", "protocol", "teacher")}, _convert_="all")
        with process_group():
            models = compared(settings["model"], reference=settings["reference"], teacher=built["teacher"])
            judgement = Judgement(built["protocol"], num_pictures=settings["num_pictures"])
            report = judgement(models, data=built["data"], config=settings, folder=folder, title="Evaluation")
            if parallel.rank() == 0:
                report.write(folder)
                judgement.forget(folder)
                print("", markdown_table(report), *protocol_lines(report.protocol), sep="\n")
        announce("done", f"{folder / 'report.html'}")


if __name__ == "__main__":
    launch(main)

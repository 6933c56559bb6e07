"""What `train` and `evaluate` do with a composed configuration; whatever starts them, the same checks come first."""

from pathlib import Path
from typing import Any

from limbeck.choices import checked, task_overrides
from limbeck.entry import job, pipeline_of, settings_of


def train(config: Any) -> None:
    """Build the pipeline and run it in the run folder."""
    with job():
        checked(config)
        from limbeck import devices

        trainer = config.get("trainer") or {}
        devices.choose(trainer.get("accelerator", "auto"), tf32=bool(trainer.get("tf32", False)))
        pipeline_of(config).run(_folder(), settings_of(config))


def evaluate(config: Any) -> None:
    """Judge a saved model, beside what it is compared with."""
    with job():
        checked(config)
        # Only now, because torch comes with them.
        from hydra.utils import instantiate

        from limbeck import devices, parallel
        from limbeck.evaluation.judgement import Judgement
        from limbeck.evaluation.markdown_report import markdown_table
        from limbeck.evaluation.protocol import protocol_lines
        from limbeck.evaluation.saved_model import compared, process_group, settings_of_run
        from limbeck.evaluation.write_report import write_report
        from limbeck.terminal import announce

        devices.choose()
        folder, settings = _folder(), settings_of_run(settings_of(config), task_overrides())
        built = instantiate({key: settings.get(key) for key in ("data", "protocol", "teacher")}, _convert_="all")
        with process_group():
            models = compared(settings["model"], reference=settings["reference"], teacher=built["teacher"])
            judgement = Judgement(built["protocol"], num_pictures=settings["num_pictures"])
            report = judgement(models, data=built["data"], config=settings, folder=folder, title="Evaluation")
            if parallel.rank() == 0:
                write_report(report, folder)
                judgement.forget(folder)
                print("", markdown_table(report), *protocol_lines(report.protocol), sep="\n")
        announce("done", f"{folder / 'report.html'}")


def _folder() -> Path:
    from hydra.core.hydra_config import HydraConfig

    return Path(HydraConfig.get().runtime.output_dir)

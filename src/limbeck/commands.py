"""What `train` and `evaluate` do with a composed configuration; whatever starts them, the same checks come first."""

from pathlib import Path
from typing import Any

from limbeck.choices import checked, default_settings, side_by_side, task_overrides
from limbeck.entry import job, pipeline_of, settings_of
from limbeck.processes import first_alone, launched, together
from limbeck.recipe import adapted


def train(config: Any) -> float | tuple[float, ...] | None:
    """Build the pipeline and run it in the run folder; what `objective` names of the result, for Hydra's sweepers."""
    with together(on_gpu=_on_gpu(config)), job():
        first_alone(lambda: checked(config))
        from limbeck import devices

        trainer = config.get("trainer") or {}
        devices.choose(trainer.get("accelerator", "auto"), tf32=bool(trainer.get("tf32", False)))
        if side_by_side():
            devices.take_own_gpu()
        config = adapted(config, _folder())
        pipeline = first_alone(lambda: pipeline_of(config))
        pipeline.run(_folder(), settings_of(config), default_settings(config))
        return _reached(settings_of(config).get("objective"))


def evaluate(config: Any) -> None:
    """Judge a saved model, beside what it is compared with."""
    with together(on_gpu=_on_gpu(config)), job():
        first_alone(lambda: checked(config))
        # Only now, because torch comes with them.
        from hydra.utils import instantiate

        from limbeck import devices, parallel
        from limbeck.evaluation.judgement import Judgement
        from limbeck.evaluation.markdown_report import markdown_table
        from limbeck.evaluation.protocol import protocol_lines
        from limbeck.evaluation.saved_model import compared, settings_of_run
        from limbeck.evaluation.write_report import write_report
        from limbeck.terminal import announce

        devices.choose()
        folder = _folder()
        settings = first_alone(lambda: settings_of_run(settings_of(config), task_overrides()))
        parts = {key: settings.get(key) for key in ("data", "protocol", "teacher", "runtime")}
        built = first_alone(lambda: instantiate(parts, _convert_="all"))
        models = first_alone(
            lambda: compared(settings["model"], reference=settings["reference"], teacher=built["teacher"])
        )
        judgement = Judgement(built["protocol"], num_pictures=settings["num_pictures"], runtimes=built["runtime"] or {})
        generator = next(iter(models.values())).generator
        first_alone(lambda: judgement.check(generator, list(models), built["data"]))
        report = judgement(models, data=built["data"], config=settings, folder=folder, title="Evaluation")
        if parallel.rank() == 0:
            write_report(report, folder)
            judgement.forget(folder)
            print("", markdown_table(report), *protocol_lines(report.protocol), sep="\n")
        announce("done", f"{folder / 'report.html'}")


def _reached(objective: Any) -> float | tuple[float, ...] | None:
    """The objectives on the first process; a number for one name, several for a list."""
    from limbeck import parallel
    from limbeck.evaluation.objective import objectives, reached
    from limbeck.pipeline import FINISHED

    names = objectives(objective)
    if not names or parallel.rank():
        return None
    values = reached(names, _folder() / FINISHED)
    return values[0] if isinstance(objective, str) else values


def _on_gpu(config: Any) -> bool:
    """Whether several processes exchange tensors on GPUs; torch is asked only if there are several."""
    if launched() is None or (config.get("trainer") or {}).get("accelerator") == "cpu":
        return False
    import torch

    return torch.cuda.is_available()


def _folder() -> Path:
    from hydra.core.hydra_config import HydraConfig

    return Path(HydraConfig.get().runtime.output_dir)

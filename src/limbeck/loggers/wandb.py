"""Weights & Biases, offline unless WANDB_MODE says otherwise: no account and no network are needed.

W&B's own step is the number of images seen, so a resumed run continues its predecessor's curve under the same id.
"""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from PIL import Image

from limbeck.errors import UserError
from limbeck.files import written_aside
from limbeck.loggers.base import RunLogger, rank_zero_only


class WandB(RunLogger):
    """Curves over `kimg`, sample grids as images, one row of the table `evaluations` per evaluated model.

    folder: the run folder; W&B's files go to `folder/wandb`, uploaded later by `wandb sync folder/wandb/offline-run-*`.
    project: W&B project; the run is named after its folder and its configuration is read from config.yaml there.
    artifact: whether the finished student goes with it, as an artifact of type "model".
    """

    def __init__(self, folder: str | Path, *, project: str = "limbeck", artifact: bool = False):
        super().__init__(folder)
        self.project = project
        self.artifact = artifact
        self._run: Any = None

    @property
    def _state_file(self) -> Path:
        return self.folder / "wandb" / "limbeck.json"

    @property
    def _state(self) -> dict[str, Any]:
        """Run id and rows of the table, kept between resumes."""
        if self._state_file.is_file():
            return json.loads(self._state_file.read_text())
        return {"id": secrets.token_hex(4), "evaluations": []}

    def _keep(self, state: dict[str, Any]) -> None:
        with written_aside(self._state_file) as aside:
            aside.write_text(json.dumps(state))

    @property
    def experiment(self) -> Any:
        """The W&B run, begun on first use or taken over from this process's earlier logger of the same folder.

        Raises: UserError if W&B refuses, e.g. WANDB_MODE=online without an account.
        """
        import wandb

        if self._run is None:
            state = self._state
            self._keep(state)
            active = wandb.run
            self._run = active if active is not None and active.id == state["id"] else self._begun(state["id"])
        return self._run

    def _begun(self, run_id: str) -> Any:
        import wandb

        mode = os.environ.get("WANDB_MODE", "offline")
        config = self.folder / "config.yaml"
        quiet = wandb.Settings(silent=mode != "online", console="off")
        try:
            run = wandb.init(
                project=self.project,
                dir=self.folder,
                id=run_id,
                name="/".join(self.folder.absolute().parts[-2:]),
                config=OmegaConf.to_container(OmegaConf.load(config)) if config.is_file() else None,  # type: ignore[arg-type]
                mode=mode,  # type: ignore[arg-type]
                resume="allow" if mode == "online" else None,
                reinit="finish_previous",
                settings=quiet,
            )
        except (wandb.Error, ValueError) as error:
            message = " ".join(str(error).split())[:200]
            raise UserError(
                f"WANDB_MODE={mode}: {message}; allowed: offline, disabled, online after `wandb login`"
            ) from error
        run.define_metric("kimg")
        run.define_metric("*", step_metric="kimg")
        return run

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        kimg = metrics["kimg"] if "kimg" in metrics else (step or 0) / 1000
        self._log(dict(metrics), kimg)

    @rank_zero_only
    def log_image(self, key: str, image: Image.Image, *, kimg: float) -> None:
        import wandb

        self._log({key: wandb.Image(image)}, kimg)

    @rank_zero_only
    def log_evaluation(self, model: str, facts: Mapping[str, float], *, kimg: float) -> None:
        import wandb

        run, state = self.experiment, self._state
        earlier = [
            row for row in state["evaluations"] if row["kimg"] < kimg or (row["kimg"] == kimg and row["model"] != model)
        ]
        evaluations = [*earlier, {"kimg": kimg, "model": model, **facts}]
        self._keep({**state, "evaluations": evaluations})
        columns = list(dict.fromkeys(name for row in evaluations for name in row))
        rows = [[row.get(name) for name in columns] for row in evaluations]
        run.summary.update({f"evaluation/{model}/{name}": value for name, value in facts.items()})
        self._log({"evaluations": wandb.Table(columns=columns, data=rows, allow_mixed_types=True)}, kimg)

    @rank_zero_only
    def close(self) -> None:
        import wandb

        student = self.folder / "student.safetensors"
        if self.artifact and student.is_file():
            held = wandb.Artifact(f"student-{self.experiment.id}", type="model")
            held.add_file(str(student), policy="immutable")  # read where it lies
            self.experiment.log_artifact(held)
        if self._run is not None:
            self._run.finish()
            self._run = None
            wandb.teardown()  # `finish` alone returns before the file is written

    def _log(self, values: dict[str, Any], kimg: float) -> None:
        self.experiment.log({**values, "kimg": kimg}, step=round(kimg * 1000))

"""`hydra/sweeper=optuna`: Hydra's way to `limbeck.sweep.search`. Light, because every Hydra program loads it."""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper


class Search(Sweeper):
    """Runs a configuration again and again where Optuna expects the best of `objective`.

    n_trials: runs in all, those of earlier calls of the same command included. n_jobs: runs that the launcher gets at a
        time. seed: of the suggestions. sampler: an Optuna sampler's `_target_` and arguments but for its seed.
    """

    def __init__(self, *, n_trials: int, n_jobs: int, seed: int, sampler: Any) -> None:
        self.n_trials, self.n_jobs, self.seed, self.sampler = n_trials, n_jobs, seed, sampler

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.config: Any = config
        self.hydra_context = hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from limbeck.sweep.search import search

        def composed(overrides: list[str]) -> Any:
            return self.hydra_context.config_loader.load_sweep_config(self.config, overrides)

        return search(
            arguments,
            composed=composed,
            launch=lambda batch, first: self.launcher.launch(batch, initial_job_idx=first),
            folder=self.config.hydra.sweep.dir,
            settings={"n_trials": self.n_trials, "n_jobs": self.n_jobs, "seed": self.seed, "sampler": self.sampler},
        )

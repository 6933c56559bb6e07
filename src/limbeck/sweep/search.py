"""A search by Optuna over what the command line leaves open: runs are launched where the best is expected.

All that is known stands in `study.log` in the sweep's folder, so the same command goes on with a search that was
killed: runs without a result are started again first, in their own folders, where they resume. Suggestions depend on
the seed and the results so far alone; an interrupted search therefore takes the way of one that was not.
"""

import importlib.util
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.errors import UserError
from limbeck.evaluation.objective import Way, check_objectives, directions, objectives
from limbeck.identity import WATCHING
from limbeck.lock import locked
from limbeck.terminal import announce

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution

STUDY, NAME = "study.log", "search"
EXAMPLE = "'pruning.ratio=interval(0.3,0.9)' or initializer=keep,svs"
Space = dict[str, "BaseDistribution"]
Launch = Callable[[list[list[str]], int], Sequence[Any]]


def search(
    arguments: Sequence[str],
    *,
    composed: Callable[[list[str]], Any],
    launch: Launch,
    folder: str | Path,
    settings: dict[str, Any],
) -> list[Any]:
    """Launch runs until there are enough; their results as the launcher gives them.

    arguments: overrides, some of which leave a choice. composed: the configuration that overrides give. launch: runs
    batches of overrides, the number of the first run beside them. settings: of `hydra/sweeper=optuna`.

    Raises: UserError if there is nothing to look for or to choose, or the folder holds another search; what a run
    raised, once the others are through.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UserError("hydra/sweeper=optuna: Optuna is not installed; pip install 'limbeck[optuna]'")
    space, fixed = parted(arguments)
    if not space:
        raise UserError(f"hydra/sweeper=optuna: no setting is left open; leave one open, as {EXAMPLE}")
    for name in ("n_trials", "n_jobs"):
        if not isinstance(settings[name], int) or settings[name] < 1:
            raise UserError(f"hydra.sweeper.{name}={settings[name]}: must be a whole number, at least 1")
    names, ways = _wanted(composed, space, fixed)
    folder = Path(folder)
    with locked(folder):
        study = _opened(folder / STUDY, ways, {"space": {k: repr(v) for k, v in space.items()}, **_facts(fixed, names)})
        return _Runs(study, space, fixed, launch, settings).all()


def parted(arguments: Sequence[str]) -> tuple[Space, list[str]]:
    """What overrides leave open, by key, and the others as they are."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    space: Space = {}
    fixed = []
    for override in OverridesParser.create().parse_overrides(list(arguments)):
        if override.is_sweep_override():
            space[override.get_key_element()] = _distribution(override)
        else:
            fixed.append(str(override.input_line))
    return space, fixed


def _distribution(override: Any) -> "BaseDistribution":
    """interval(a,b), int(interval(a,b)), tag(log,interval(a,b)), which is even in orders of magnitude; else choices."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not override.is_interval_sweep():
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    swept = override.value()
    low, high, log = swept.start, swept.end, "log" in swept.tags
    try:
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(float(low), float(high), log=log)
    except ValueError as error:
        raise UserError(f"{override.input_line}: {error}") from error


def _wanted(composed: Callable[[list[str]], Any], space: Space, fixed: list[str]) -> tuple[tuple[str, ...], list[Way]]:
    """The objectives and which way each is better. Raises: UserError if there is none, or it is not measured."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    config = composed([*fixed, *(f"{key}={_any(distribution)}" for key, distribution in space.items())])
    objective = config.get("objective")
    names = objectives(OmegaConf.to_container(objective) if OmegaConf.is_config(objective) else objective)
    if not names:
        raise UserError("objective=null: hydra/sweeper=optuna needs one, as objective=kid_lite0 or [kid_lite0,macs]")
    metrics = instantiate(config.metric, _convert_="all") or {}
    ranks = {name: higher for metric in metrics.values() for name, higher in metric.ranks().items()}
    check_objectives(list(names), ranks)
    return names, directions(names, ranks)


def _any(distribution: "BaseDistribution") -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.low


def _facts(fixed: list[str], names: Sequence[str]) -> dict[str, Any]:
    """What makes a search the same search; where runs compute and what is told of them is no part of it."""
    settings = [override for override in fixed if re.split(r"[.=]", override.lstrip("+~"))[0] not in WATCHING]
    return {"settings": sorted(settings), "objective": list(names)}


def _opened(path: Path, ways: list[Way], facts: dict[str, Any]) -> "Study":
    """The study kept in a file. Raises: UserError if it is another one, or cannot be read."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    _drop_torn_line(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            storage = JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))
            study = optuna.create_study(storage=storage, study_name=NAME, directions=ways, load_if_exists=True)
        except (ValueError, KeyError) as error:
            raise UserError(f"{path}: unreadable ({' '.join(str(error).split())}); remove it to begin anew") from error
    for name, value in facts.items():
        before = study.user_attrs.get(name, value)
        if before != value:
            raise UserError(
                f"{path}: another search ({name}: {value} here, {before} there); choose another hydra.sweep.dir"
            )
        study.set_user_attr(name, value)
    return study


def _drop_torn_line(path: Path) -> None:
    """Cut off the line that a kill left unfinished, and the lock of whoever wrote it."""
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)  # the folder's own lock keeps others away
    if path.is_file():
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with open(path, "r+b") as file:
                file.truncate(len(whole))


class _Runs:
    """The runs of one search, batch by batch."""

    def __init__(self, study: "Study", space: Space, fixed: list[str], launch: Launch, settings: dict[str, Any]):
        self.study, self.space, self.fixed, self.launch = study, space, fixed, launch
        self.n_trials, self.n_jobs = settings["n_trials"], settings["n_jobs"]
        self.seed, self.sampler = settings["seed"], settings["sampler"]
        self.results: list[Any] = []

    def all(self) -> list[Any]:
        from optuna.trial import TrialState

        left = [(trial.number, trial.params) for trial in self.study.get_trials(states=(TrialState.RUNNING,))]
        problem: BaseException | None = None
        for start in range(0, len(left), self.n_jobs):
            problem = self._carried_out(left[start : start + self.n_jobs]) or problem
        while (begun := len(self.study.trials)) < self.n_trials:
            done = self._carried_out(self._suggested(begun, min(self.n_jobs, self.n_trials - begun)))
            problem = done or problem
            if done and not self.study.get_trials(states=(TrialState.COMPLETE,)):
                break  # what is wrong with all of them would be wrong with the next
        if problem is not None:
            raise problem
        return self.results

    def _suggested(self, begun: int, count: int) -> list[tuple[int, dict[str, Any]]]:
        from hydra.utils import instantiate

        self.study.sampler = instantiate(self.sampler, seed=self.seed + begun)
        trials: list[Trial] = [self.study.ask(self.space) for _ in range(count)]
        return [(trial.number, trial.params) for trial in trials]

    def _carried_out(self, batch: list[tuple[int, dict[str, Any]]]) -> BaseException | None:
        """Run and note the results; what went wrong, if something did. Such runs stay open for the next call."""
        from hydra.core.utils import JobStatus
        from optuna.trial import TrialState

        announce("search", f"{', '.join(str(number + 1) for number, _ in batch)} of {self.n_trials} runs")
        overrides = [[*self.fixed, *(f"{key}={value}" for key, value in params.items())] for _, params in batch]
        problem = None
        for (number, _), result in zip(batch, self.launch(overrides, batch[0][0]), strict=True):
            self.results.append(result)
            if result.status != JobStatus.COMPLETED:
                problem = problem or result._return_value
                continue
            values = result.return_value
            values = [values] if isinstance(values, float) else list(values)
            finite = all(abs(value) < float("inf") for value in values)
            self.study.tell(number, values if finite else None, state=None if finite else TrialState.FAIL)
        return problem

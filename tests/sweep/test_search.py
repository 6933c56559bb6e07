"""A search with runs that cost nothing: what is suggested, what is kept, what goes on after a kill."""

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from limbeck.errors import UserError
from limbeck.sweep.search import STUDY, parted, search

OPEN = ["seed=3", "pruning.ratio=interval(0.3,0.9)", "initializer=keep,svs"]
SAMPLER = {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 2}


class Killed(BaseException):
    pass


class Runs:
    """Launches runs of a known outcome; dies or refuses in those of the given numbers."""

    def __init__(self, killed_in=None, refused=(), objective=None):
        self.killed_in, self.refused, self.objective = killed_in, refused, objective or self.both
        self.started: list[list[str]] = []
        self.numbers: list[int] = []

    @staticmethod
    def both(ratio, initializer):
        return (ratio - 0.5) ** 2 + 0.1 * (initializer == "keep"), 1 - ratio

    def __call__(self, batch, first):
        results = []
        for number, overrides in enumerate(batch, first):
            if number == self.killed_in:
                raise Killed
            self.started.append(overrides)
            self.numbers.append(number)
            if number in self.refused:
                results.append(JobReturn(_return_value=UserError("no"), status=JobStatus.FAILED))
                continue
            values = dict(override.split("=") for override in overrides)
            found = self.objective(float(values["pruning.ratio"]), values["initializer"])
            results.append(JobReturn(_return_value=found, status=JobStatus.COMPLETED))
        return results


def composed(objective):
    return lambda overrides: OmegaConf.create({"objective": objective, "metric": {}})


def go(folder, launch, *, arguments=OPEN, objective=("num_parameters", "macs"), **settings):
    settings = {"n_trials": 6, "n_jobs": 1, "seed": 0, "sampler": SAMPLER} | settings
    wanted = list(objective) if isinstance(objective, tuple) else objective
    return search(arguments, composed=composed(wanted), launch=launch, folder=folder, settings=settings)


def test_what_is_open_and_what_is_not():
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    more = ["+a=int(interval(1,4))", "lr=tag(log,interval(1e-4,1e-1))", "loss/generator=[a],[a,b]", "k=range(1,7,2)"]
    space, fixed = parted([*OPEN, *more])
    assert fixed == ["seed=3"]
    assert space == {
        "pruning.ratio": FloatDistribution(0.3, 0.9),
        "initializer": CategoricalDistribution(["keep", "svs"]),
        "+a": IntDistribution(1, 4),
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "loss/generator": CategoricalDistribution(["[a]", "[a,b]"]),
        "k": CategoricalDistribution(["1", "3", "5"]),
    }
    with pytest.raises(UserError, match="lr=tag"):
        parted(["lr=tag(log,interval(0.0,0.1))"])


def test_runs_are_as_many_as_asked_for_and_all_inside(tmp_path):
    launch = Runs()
    results = go(tmp_path, launch)
    assert len(results) == len(launch.started) == 6
    for overrides in launch.started:
        values = dict(override.split("=") for override in overrides)
        assert list(values) == ["seed", "pruning.ratio", "initializer"]
        assert values["seed"] == "3"
        assert 0.3 <= float(values["pruning.ratio"]) <= 0.9
    assert len({tuple(overrides) for overrides in launch.started}) == 6


def test_the_best_is_sought(tmp_path):
    """A sampler that learns comes closer to the optimum (0.5, svs) than its own random first draws."""
    launch = Runs(objective=lambda ratio, initializer: Runs.both(ratio, initializer)[0])
    results = go(tmp_path, launch, objective="macs", n_trials=25)
    values = [result.return_value for result in results]
    assert min(values[2:]) < min(values[:2])
    assert sum("initializer=svs" in overrides for overrides in launch.started[10:]) > 10


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("killed_in", [0, 3, 5])
def test_a_killed_search_takes_the_way_of_one_that_was_not(tmp_path, killed_in, n_jobs):
    straight, before, after = Runs(), Runs(killed_in=killed_in), Runs()
    go(tmp_path / "straight", straight, n_jobs=n_jobs)
    with pytest.raises(Killed):
        go(tmp_path / "killed", before, n_jobs=n_jobs)
    go(tmp_path / "killed", after, n_jobs=n_jobs)
    assert after.numbers[0] == killed_in - killed_in % n_jobs  # the whole batch has no result
    begun = [runs for number, runs in zip(before.numbers, before.started, strict=True) if number < after.numbers[0]]
    assert begun + after.started == straight.started


def test_a_line_that_a_kill_left_unfinished_is_forgotten(tmp_path):
    straight, after = Runs(), Runs()
    go(tmp_path / "straight", straight)
    with pytest.raises(Killed):
        go(tmp_path / "killed", Runs(killed_in=4))
    with open(tmp_path / "killed" / STUDY, "ab") as file:
        file.write(b'{"op_code":4,"worker_id":"tor')
    (tmp_path / "killed" / f"{STUDY}.lock").touch()
    go(tmp_path / "killed", after)
    assert after.started == straight.started[4:]


def test_a_finished_search_starts_nothing_and_a_longer_one_goes_on(tmp_path):
    first, again, longer = Runs(), Runs(), Runs()
    go(tmp_path, first)
    assert go(tmp_path, again) == []
    go(tmp_path, longer, n_trials=8)
    assert (again.numbers, longer.numbers) == ([], [6, 7])


def test_a_refused_run_stops_no_other_and_is_started_again(tmp_path):
    first, again = Runs(refused=(2,)), Runs()
    with pytest.raises(UserError, match="no"):
        go(tmp_path, first)
    assert first.numbers == list(range(6))
    go(tmp_path, again)
    assert again.started == [first.started[2]]


def test_what_is_wrong_with_all_runs_is_said_after_one(tmp_path):
    launch = Runs(refused=range(6))
    with pytest.raises(UserError, match="no"):
        go(tmp_path, launch)
    assert launch.numbers == [0]


def test_a_number_that_is_none_counts_as_a_run(tmp_path):
    launch = Runs(objective=lambda ratio, initializer: (float("nan"), 1.0))
    go(tmp_path, launch)
    assert launch.numbers == list(range(6))
    assert go(tmp_path, Runs()) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"arguments": ["seed=4", *OPEN[1:]]}, r"another search \(settings: .*seed=4"),
        ({"arguments": [OPEN[0], "pruning.ratio=interval(0.3,0.8)", OPEN[2]]}, r"another search \(space"),
        ({"objective": ("macs", "num_parameters")}, r"another search \(objective"),
    ],
)
def test_another_search_is_refused(tmp_path, changed, said):
    go(tmp_path, Runs(), n_trials=1)
    with pytest.raises(UserError, match=said):
        go(tmp_path, Runs(), **changed)


def test_where_it_runs_may_change(tmp_path):
    go(tmp_path, Runs(), n_trials=1)
    go(tmp_path, Runs(), arguments=["trainer.accelerator=cpu", "logger=[]", *OPEN], n_trials=2)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"arguments": ["seed=3"]}, "no setting is left open"),
        ({"objective": None}, "objective=null"),
        ({"objective": "fid"}, "objective=fid: not measured"),
        ({"n_trials": 0}, r"n_trials=0: must be"),
        ({"n_jobs": 1.5}, r"n_jobs=1\.5: must be"),
    ],
)
def test_a_search_that_cannot_be_is_refused(tmp_path, changed, said):
    launch = Runs()
    with pytest.raises(UserError, match=said):
        go(tmp_path, launch, **changed)
    assert launch.numbers == []


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / STUDY).write_text("no journal\n")
    with pytest.raises(UserError, match=r"study\.log: unreadable"):
        go(tmp_path, Runs())


def test_without_optuna_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'limbeck\[optuna\]'"):
        go(tmp_path, Runs())

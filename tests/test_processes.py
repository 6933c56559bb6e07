"""Who started these processes, where they meet, and what a single one does."""

import pytest

from limbeck.errors import UserError
from limbeck.processes import decided, first_alone, first_host, launched, speaks, together

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "n7", "MASTER_PORT": "1234"}
SRUN = {
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
}


def test_torchrun_and_srun_are_known():
    found = launched(TORCHRUN)
    assert (found.rank, found.local_rank, found.world_size, found.address, found.port) == (3, 1, 4, "n7", 1234)
    found = launched(SRUN)
    assert (found.rank, found.local_rank, found.world_size, found.address) == (1, 0, 2, "gpu03")
    assert launched({**SRUN, "SLURM_STEP_ID": "1"}).port != found.port  # two steps of one job do not meet
    assert launched({**SRUN, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}).address == "127.0.0.1"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"},  # a child of Lightning's
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "77"},  # the batch script itself
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1"},
        {**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"},
    ],
)
def test_single_processes_and_lightnings_children_do_not_wait_for_others(environment):
    assert launched(environment) is None


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("gpu[03-07,9],login", "gpu03"), ("a1,b2", "a1"), ("node7", "node7"), ("n[5,8-9]", "n5"), ("", "127.0.0.1")],
)
def test_first_host_of_a_node_list(nodes, first):
    assert first_host(nodes) == first


def test_alone_everything_happens_here(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    with together(on_gpu=False):
        assert decided(lambda: 3) == 3
        assert first_alone(lambda: "made") == "made"
    with pytest.raises(UserError), together(on_gpu=False):
        decided(lambda: (_ for _ in ()).throw(UserError("no")))


def test_a_child_of_lightnings_takes_the_decision_as_made_and_makes_its_own_objects(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert decided(lambda: 1 / 0) is None
    assert first_alone(lambda: "made") == "made"


def test_before_all_have_met_only_the_first_speaks(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert not speaks()
    monkeypatch.setenv("RANK", "0")
    assert speaks()

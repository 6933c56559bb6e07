"""Two processes that share a scoring out find what one finds, up to the order of additions."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from limbeck.pruning import scoring

from .shared_scoring import CUT_OFFS, KILLED_IN, NUM_STEPS, Counting, Killed, cases, denoiser, features, latent_model

pytestmark = pytest.mark.slow
ALL_ONCE = sum(4.0**index for index in range(NUM_STEPS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where two processes have scored, and one had begun."""
    folder = tmp_path_factory.mktemp("scores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "SAVE_SECONDS", -1.0)
        with pytest.raises(Killed):
            scoring.worked(Counting(KILLED_IN - 1), latent_model(), path=folder / "of_one")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    meet = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    worker = [sys.executable, str(Path(__file__).with_name("shared_scoring.py")), str(folder)]
    processes = [
        subprocess.Popen(worker, env={**os.environ, **meet, "RANK": rank, "LOCAL_RANK": rank}) for rank in "01"
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    return folder


@pytest.fixture(scope="module")
def found(folder) -> list[dict[str, torch.Tensor]]:
    return [torch.load(folder / f"found.{rank}", weights_only=True) for rank in range(2)]


def test_sums_and_the_first_ones_tensor_are_the_same_everywhere(found):
    for own in found:
        assert own["summed"].tolist() == [16.5, 22.0]
        assert own["of_first"].tolist() == [0, 7]
        wide = features().double()
        assert own["count"].item() == len(wide)
        torch.testing.assert_close(own["total"], wide.sum(dim=0), rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(own["products"], wide.T @ wide, rtol=1e-14, atol=1e-14)


def test_all_processes_hold_the_same(found):
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("name", [name for name in cases() if name not in CUT_OFFS])
def test_two_processes_score_as_one(found, name):
    """Each step computes the same, so sums differ by their order alone: by less than 2 (n - 1) u of the magnitudes.

    Source: Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 4.2; u is half the epsilon.
    """
    criterion, model = cases()[name]
    state = criterion.start(model)
    measures, magnitudes = [], {key: value.clone() for key, value in state.items()}
    for index in range(NUM_STEPS):
        part = criterion.step(model, state, index)
        measures.append(part.measure)
        ended = criterion.ends(torch.tensor(measures, dtype=torch.float64))
        if not ended or criterion.end_counts:
            scoring.add(state, part)
            for key, value in part.sums.items():
                magnitudes[f"sum.{key}"] += value.abs()
        if ended:
            break
    sums = [key for key in state if key.startswith("sum.")]
    assert sums
    assert all(state[key].abs().max() > 0 for key in sums)
    for key, value in state.items():
        bound = (NUM_STEPS - 1) * torch.finfo(value.dtype).eps * magnitudes[key].abs() if key in sums else 0
        assert ((found[0][f"{name}/{key}"] - value).abs() <= bound).all(), key
    if name == "diff_pruning":
        assert ended
        assert 1 < len(measures) < NUM_STEPS  # otherwise nothing was cut off


@pytest.mark.parametrize("name", CUT_OFFS)
def test_the_cut_off_falls_where_it_falls_for_one(found, name):
    criterion, model = cases()[name]
    assert found[0][f"{name}/sum.w"].tolist() == scoring.scored(criterion, model)["w"].tolist()


def test_another_number_of_processes_goes_on_where_the_first_was(folder, found):
    assert found[0]["continued"].item() == ALL_ONCE
    _, done = scoring._read(folder / "of_two", NUM_STEPS)
    assert done == KILLED_IN
    assert scoring.worked(Counting(), latent_model(), path=folder / "of_two")["sum.bits"].item() == ALL_ONCE


def test_a_finished_file_says_the_same_to_one_process(folder, found):
    criterion, _ = cases()["taylor"]
    state = scoring.worked(criterion, denoiser(), path=folder / "taylor.safetensors")
    assert all(torch.equal(found[0][f"taylor/{key}"], value) for key, value in state.items())

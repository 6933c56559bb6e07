"""What a search looks for: names, which way is better, and the numbers of a report."""

import json
import math

import pytest

from limbeck.embeddings.random_projection import RandomProjection
from limbeck.errors import UserError
from limbeck.evaluation.objective import check_objectives, directions, objectives, reached
from limbeck.evaluation.protocol import Protocol
from limbeck.metrics.frechet import FrechetDistance
from limbeck.metrics.kernel_distance import KernelDistance
from limbeck.metrics.prdc import Overlap
from limbeck.metrics.ssim import Ssim

RANKS = {"kid_lite0": False, "recall_lite0": True}


def test_one_name_several_or_none():
    assert objectives(None) == ()
    assert objectives("macs") == ("macs",)
    assert objectives(["kid_lite0", "macs"]) == ("kid_lite0", "macs")


@pytest.mark.parametrize(("wrong", "said"), [(3, "must be a name"), ([], None), ({"a": 1}, "must be a name")])
def test_anything_else_is_refused(wrong, said):
    if said is None:
        assert objectives(wrong) == ()
        return
    with pytest.raises(UserError, match=said):
        objectives(wrong)


def test_what_the_protocol_does_not_measure_is_refused():
    check_objectives(["recall_lite0", "latency_ms"], RANKS)
    with pytest.raises(UserError, match=r"objective=fid: not measured .* allowed: num_parameters, .*, kid_lite0"):
        check_objectives("fid", RANKS)
    with pytest.raises(UserError, match="the same number twice"):
        check_objectives(["macs", "macs"], RANKS)


def test_costs_and_distances_are_to_be_small():
    assert directions(["kid_lite0", "macs", "recall_lite0"], RANKS) == ["minimize", "minimize", "maximize"]


def test_every_metric_says_which_way_is_better():
    """The suffix of an embedding belongs to the name, as it does in a report."""
    embedding = RandomProjection(num_features=8)
    metrics = {
        "kid": KernelDistance(embedding=embedding),
        "frechet": FrechetDistance(embedding=embedding, name="frechet"),
        "prdc": Overlap(embedding=embedding),
        "ssim": Ssim(),
    }
    ends = embedding.metric_suffix
    found = Protocol(metrics=metrics, num_images=8).ranks()
    assert found == {
        f"kid{ends}": False,
        f"frechet{ends}": False,
        **{f"{name}{ends}": True for name in ("precision", "recall", "density", "coverage")},
        "ssim": True,
    }


def test_numbers_are_those_of_the_student(tmp_path):
    costs = {"num_parameters": 4, "macs": 9, "size_mib": 0.5, "latency_ms": None}
    rows = [
        {"name": "teacher", **costs, "macs": 90, "metrics": {"kid_lite0": 0.0}},
        {"name": "student", **costs, "metrics": {"kid_lite0": 0.25}},
    ]
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"rows": rows}))
    assert reached(["kid_lite0", "macs"], report) == (0.25, 9.0)
    assert math.isnan(reached(["latency_ms"], report)[0])
    with pytest.raises(UserError, match=r"objective=fid: not in .*report\.json; allowed: .*kid_lite0"):
        reached(["fid"], report)

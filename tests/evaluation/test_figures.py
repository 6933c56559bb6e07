"""Short forms of numbers, by hand."""

import math

import pytest

from limbeck.evaluation.figures import judges, main_metric, measured, metric_names, notes, ratio, short, times
from limbeck.evaluation.report import Report, Row


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (30_034_338, "30 M"),
        (24_767_458, "24.8 M"),
        (45_124_673_536, "45.1 G"),
        (231_456, "231 k"),
        (12_345, "12,345"),
        (1234.5, "1,234"),
        (8.932, "8.93"),
        (0.00312, "0.00312"),
        (0.000031234, "3.1e-05"),
        (0.0, "0"),
        (-1.25, "-1.25"),
        (None, "\u2013"),
        (math.nan, "\u2013"),
    ],
)
def test_short(value, expected):
    assert short(value) == expected


def test_times_says_nothing_where_a_ratio_says_nothing():
    assert [times(ratio(reference, 2.0)) for reference in (4, 25, 250)] == ["\u00d7 2.00", "\u00d7 12.5", "\u00d7 125"]
    assert [times(ratio(*pair)) for pair in ((0, 2), (2, 0), (None, 1), (1, math.nan))] == [""] * 4


def test_main_metric_is_the_kernel_distance():
    row = Row("student", 1, 1, 1.0, 1.0, {"frechet_lite0": 1.0, "kid_lite0": 1.0})
    assert main_metric([row]) == "kid_lite0"
    assert main_metric([Row("student", 1, 1, 1.0, 1.0, {"recall": 1.0})]) == "recall"
    assert main_metric([Row("student", 1, 1, 1.0, 1.0, {})]) is None


def test_standard_errors_stand_beside_their_metric():
    row = Row("student", 1, 1, 1.0, 1.0, {"kid": 0.01234, "kid_se": 0.00066, "lonely_se": 2.0})
    assert metric_names([row]) == ["kid", "lonely_se"]
    assert [measured(row, name) for name in ("kid", "lonely_se", "recall")] == ["0.0123 \u00b1 0.0007", "2", "\u2013"]


def test_metrics_that_share_a_network_with_a_loss_are_named():
    metrics = {name: {"weights_sha256": digest} for name, digest in (("kid_lite0", "a1"), ("kid_denoiser", "b2"))}
    protocol = {"metrics": {**metrics, "ssim": {"estimator": "no network"}}}

    def report(**losses):
        history = ({"stage": "distil", "loss_dime": {"weights_sha256": "b2"}}, {"stage": "distil", **losses})
        return Report([Row("student", 1, 1, 1.0, 1.0, {}, history=history)], protocol, {}, {}, notes=["own"])

    shared = report(loss_dime={"embeddings": {"lite0": {"weights_sha256": "a1"}}})
    assert judges(shared) == (["kid_lite0"], ["kid_denoiser"])
    assert notes(shared)[0] == "own"
    assert "independent: kid_denoiser" in notes(shared)[1]
    assert notes(report(loss_pixel_l1={"mask": "everything"})) == ["own"]
    assert judges(Report([], {}, {}, {})) == ([], [])


def test_what_fixed_filters_cost_is_told_beside_the_macs():
    """StyleGAN3-R at 256 px and its student at 0.7, by the published counts."""
    costs = {"teacher": (45_878_248_960, 17_940_000_000), "student": (4_398_298_096, 5_360_000_000)}
    rows = [Row(name, 1, macs, 1.0, 1.0, {}, filter_macs=filters) for name, (macs, filters) in costs.items()]
    (line,) = notes(Report(rows, {}, {}, {}))
    assert line == (
        "MACs in fixed filters, which the MACs above leave out: teacher 17.9 G (63.8 G with the others); "
        "student 5.36 G (9.76 G with the others, \u00d7 6.54 fewer)."
    )
    assert notes(Report([Row("student", 1, 1, 1.0, 1.0, {})], {}, {}, {})) == []

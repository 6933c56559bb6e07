"""What a search has found: which runs no other beats, as lines and as a picture."""

from matplotlib.figure import Figure

from limbeck.evaluation.report import Row
from limbeck.sweep.front import best_lines, found, non_dominated, save_front
from limbeck.sweep.runs import Run

POINTS = [(3.0, 1.0), (2.0, 2.0), (2.0, 3.0), (1.0, 3.0), (3.0, 1.0), (4.0, 4.0)]


def run(name, kid, macs, objective=("kid_lite0", "macs"), **ranks):
    student = Row("student", 10, macs, 1.0, 2.0, {"kid_lite0": kid})
    config = {"pruning.ratio": name, "kimg": "1"}
    return Run(name, config, (student,), (), objective, {"kid_lite0": False} | ranks)


def test_front_by_hand():
    assert non_dominated(POINTS, (False, False)) == [0, 1, 3, 4]  # equal points do not beat each other
    assert non_dominated(POINTS, (True, False)) == [0, 4, 5]
    assert non_dominated([(1.0,), (0.5,), (2.0,)], (False,)) == [1]


def test_a_point_is_on_the_front_exactly_if_nothing_beats_it():
    for place, point in enumerate(POINTS):
        better = [q for q in POINTS if q != point and q[0] <= point[0] and q[1] <= point[1]]
        assert (place in non_dominated(POINTS, (False, False))) == (not better)


def test_lines_name_the_front_the_best_first():
    runs = [run("0.5", 0.02, 400), run("0.7", 0.03, 300), run("0.6", 0.04, 350), run("0.8", float("nan"), 200)]
    lines = best_lines(found(runs), runs)
    assert lines[0].startswith("Pareto front of 3 finished runs")
    assert lines[0].endswith("(least kid_lite0, least macs).")
    assert lines[2] == "| run | pruning.ratio | kid_lite0 | macs |"
    assert lines[4:] == ["| 0.5 | 0.5 | 0.02 | 400 |", "| 0.7 | 0.7 | 0.03 | 300 |"]


def test_one_number_has_one_best_and_more_may_be_better():
    runs = [run("0.5", 0.2, 400, ("kid_lite0",), kid_lite0=True), run("0.7", 0.3, 300, ("kid_lite0",), kid_lite0=True)]
    lines = best_lines(found(runs), runs)
    assert lines[0] == "Best of 2 finished runs (most kid_lite0)."
    assert lines[4:] == ["| 0.7 | 0.7 | 0.3 |"]


def test_nothing_is_said_where_nothing_is_looked_for():
    assert found([run("0.5", 0.2, 400, ())]) is None
    assert found([run("0.5", 0.2, 400), run("0.6", 0.2, 400, ("macs",))]) is None
    assert found([Run("0.5", {}, (), (), ("macs",))]) is None


def test_the_picture_joins_the_front_and_shows_the_others(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    save_front(found([run("a", 0.02, 400), run("b", 0.03, 300), run("c", 0.04, 350)]), tmp_path / "front.png")
    axes = drawn[0].axes[0]
    every, front = axes.get_lines()
    assert sorted(zip(*every.get_data(), strict=True)) == [(300, 0.03), (350, 0.04), (400, 0.02)]
    assert list(zip(*front.get_data(), strict=True)) == [(300, 0.03), (400, 0.02)]
    assert front.get_drawstyle() == "steps-post"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("macs (less is better)", "kid_lite0 (less is better)")

"""The summary across run folders, from files like those that runs leave."""

import csv
import json
import sys

import pytest
from omegaconf import OmegaConf
from PIL import Image

from limbeck.errors import UserError
from limbeck.evaluation.report import Report, Row
from limbeck.evaluation.write_report import write_report
from limbeck.sweep.after_sweep import SweepSummary
from limbeck.sweep.runs import cells, read_runs, varied_keys
from limbeck.sweep.summary import main, summary_table, write_summary


def make_run(folder, initializer, ratio, kid=None, seed=0, **more):
    config = {
        "seed": seed,
        **more,
        "run_name": folder.name,
        "pruning": {"_target_": "limbeck.pruning.pruner.Pruner", "ratio": ratio},
        "initializer": {"_target_": f"limbeck.initializers.{initializer}.{initializer.title()}"},
        "pipeline": {"pruning": {"ratio": ratio}},
    }
    folder.mkdir(parents=True)
    OmegaConf.save(config, folder / "config.yaml")
    if kid is not None:
        size = 1 - ratio
        rows = [
            Row("teacher", 1000, 4_000_000, 1.0, 8.0, {"recall": 0.9, "kid_lite0": 0.001}),
            Row("pruned", int(1000 * size), int(4e6 * size), size, 8.0 * size, {"recall": 0.0, "kid_lite0": 0.5}),
            Row("student", int(1000 * size), int(4e6 * size), size, 8.0 * size, {"recall": 0.5, "kid_lite0": kid}),
        ]
        write_report(Report(rows, {}, config, {}), folder)


@pytest.fixture
def sweep(tmp_path):
    make_run(tmp_path / "a", "keep", 0.5, 0.02)
    make_run(tmp_path / "b", "keep", 0.75, 0.04)
    make_run(tmp_path / "c", "svs", 0.5, 0.01)
    make_run(tmp_path / "nested" / "d", "svs", 0.75)
    return tmp_path


def test_columns_are_the_settings_that_differ(sweep):
    assert varied_keys(read_runs(sweep)) == ["initializer._target_", "pruning.ratio"]


def test_table_by_hand(sweep):
    header, lines = summary_table(read_runs(sweep))
    assert header == ["initializer, pruning.ratio", "seeds", "parameters", "MACs", "latency ms", "recall", "kid_lite0"]
    assert lines[1] == [
        "Keep, 0.75",
        "1",
        "250 \u00d7 4.00",
        "1 M \u00d7 4.00",
        "2 \u00d7 4.00",
        "0 \u2192 0.5",
        "0.5 \u2192 0.04",
    ]
    assert lines[3] == ["Svs, 0.75", "unfinished", "", "", "", "", ""]
    assert len(lines) == 4


def test_files_hold_every_model_unrounded_and_a_plot(sweep):
    markdown = write_summary(read_runs(sweep), sweep)
    assert (sweep / "sweep.md").read_text() == markdown + "\n"
    with open(sweep / "sweep.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["model"]) for row in rows][3:] == [
        ("b", "teacher"),
        ("b", "pruned"),
        ("b", "student"),
        ("c", "teacher"),
        ("c", "pruned"),
        ("c", "student"),
        ("nested/d", "unfinished"),
    ]
    assert rows[5]["kid_lite0"] == "0.04"
    assert rows[5]["macs"] == "1000000"
    assert rows[5]["initializer"] == "Keep"
    with Image.open(sweep / "sweep.png") as image:
        assert image.width > 600


def test_a_sweep_that_judges_students_alone_has_a_picture_too(sweep):
    """pipeline.judgement.measured=[student] leaves the other rows without metrics."""
    for folder in "abc":
        file = sweep / folder / "report.json"
        content = json.loads(file.read_text())
        for row in content["rows"][:2]:
            row["metrics"] = {}
        file.write_text(json.dumps(content))
    markdown = write_summary(read_runs(sweep), sweep)
    assert "0.02" in markdown
    assert "0.5 →" not in markdown
    with Image.open(sweep / "sweep.png") as image:
        assert image.width > 600


def test_sweep_without_a_finished_run_has_a_table_only(tmp_path):
    make_run(tmp_path / "a", "keep", 0.5)
    assert write_summary(read_runs(tmp_path), tmp_path).endswith("| a | unfinished |  |  |  |")
    assert not (tmp_path / "sweep.png").exists()


def test_damaged_report_is_named(sweep):
    (sweep / "b" / "report.json").write_text("{")
    with pytest.raises(UserError, match=r"/b: unreadable report"):
        read_runs(sweep)


def test_hydra_callback_summarizes_the_sweep_folder(sweep, capsys):
    SweepSummary().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}}))
    assert (sweep / "sweep.csv").is_file()
    assert "Svs, 0.5" in capsys.readouterr().out
    SweepSummary().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep / "missing")}}}))
    assert capsys.readouterr().out == ""


def test_command(sweep, tmp_path_factory, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sweep", str(sweep)])
    main()
    assert "Keep, 0.5" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["sweep", str(tmp_path_factory.mktemp("empty"))])
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_seeds_are_gathered_with_their_spread(tmp_path):
    for seed, kid in enumerate((0.01, 0.02, 0.03)):
        make_run(tmp_path / f"keep{seed}", "keep", 0.5, kid, seed=seed)
        make_run(tmp_path / f"svs{seed}", "svs", 0.5, kid / 10 if seed < 2 else None, seed=seed)
    runs = read_runs(tmp_path)
    assert [(cell.label, len(cell.runs)) for cell in cells(runs)] == [("Keep", 3), ("Svs", 3)]
    header, lines = summary_table(runs)
    assert header[0] == "initializer"
    assert lines[0][1] == "3"
    assert lines[0][-1] == "0.5 \u00b1 0 \u2192 0.02 \u00b1 0.01"
    assert lines[1][1] == "2 of 3"
    assert lines[1][-1] == "0.5 \u00b1 0 \u2192 0.0015 \u00b1 0.00071"
    write_summary(runs, tmp_path)
    assert (tmp_path / "sweep.png").is_file()


def test_settings_that_follow_from_others_are_not_named(tmp_path):
    make_run(tmp_path / "a", "keep", 0.5, 0.1, alpha="5", depth="1")
    make_run(tmp_path / "b", "svs", 0.5, 0.1, alpha="", depth="1")
    make_run(tmp_path / "c", "random", 0.5, 0.1, alpha="", depth="1")
    make_run(tmp_path / "d", "random", 0.5, 0.1, alpha="", depth="2")
    assert varied_keys(read_runs(tmp_path)) == ["initializer._target_", "depth"]


def test_what_is_measured_makes_no_other_cell_but_how_it_is_measured_does(tmp_path):
    kid, ssim = {"_target_": "Kid", "num_images": 10}, {"_target_": "Ssim"}
    make_run(tmp_path / "a", "keep", 0.5, 0.02, metric={"kid": kid, "ssim": ssim})
    make_run(tmp_path / "b", "keep", 0.5, 0.04, seed=1, metric={"kid": kid})
    assert varied_keys(read_runs(tmp_path)) == []
    make_run(tmp_path / "c", "keep", 0.5, 0.04, seed=1, metric={"kid": kid | {"num_images": 20}})
    assert varied_keys(read_runs(tmp_path)) == ["metric.kid.num_images"]


def test_curves_and_logit_gap_come_from_the_log(sweep):
    (sweep / "a" / "metrics.csv").write_text(
        "kimg,metric/kid_lite0,logits/teacher/real,logits/teacher/fake\n1,0.3,2,-1\n2,,3,-2.5\n"
    )
    (config := OmegaConf.load(sweep / "a" / "config.yaml")).kimg = 4
    OmegaConf.save(config, sweep / "a" / "config.yaml")
    runs = read_runs(sweep)
    assert runs[0].curve("kid_lite0") == [(0.0, 0.5), (1.0, 0.3), (4.0, 0.02)]
    assert runs[0].logit_gap() == 5.5
    assert runs[1].logit_gap() is None
    header, lines = summary_table(runs)
    assert (header[-1], lines[0][-1], lines[1][-1]) == ("logit gap", "5.5", "")
    write_summary(runs, sweep)
    with Image.open(sweep / "sweep_curves.png") as image:
        assert image.format == "PNG"


def test_no_curves_without_measurements_on_the_way(sweep):
    write_summary(read_runs(sweep), sweep)
    assert (sweep / "sweep.png").exists()
    assert not (sweep / "sweep_curves.png").exists()


def test_losses_are_named_together(tmp_path):
    for name, terms in {"a": ["nonsaturating"], "b": ["nonsaturating", "dime"]}.items():
        loss = {"generator": {term: {"_target_": "limbeck.losses.weighted.Weighted", "weight": 1} for term in terms}}
        make_run(tmp_path / name, "keep", 0.5, 0.1, loss=loss)
    runs = read_runs(tmp_path)
    assert varied_keys(runs) == ["loss.generator"]
    assert [cell.label for cell in cells(runs)] == ["nonsaturating", "nonsaturating+dime"]

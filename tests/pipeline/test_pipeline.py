"""Whose run a folder holds, without running one."""

import pytest

from limbeck.errors import UserError
from limbeck.pipeline import Pipeline


def pipeline():
    parts = ("data", "teacher", "pruning", "initializer", "distiller", "judgement")
    return Pipeline(**dict.fromkeys(parts), loggers=dict, title="")


@pytest.mark.parametrize("left", ["scores.safetensors", "pruned.safetensors"])
def test_what_another_configuration_left_is_not_taken_over(tmp_path, left):
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    (tmp_path / left).touch()
    with pytest.raises(UserError, match="another configuration"):
        pipeline().run(tmp_path, {"seed": 0})
    assert (tmp_path / "config.yaml").read_text() == "seed: 1\n"


def test_a_finished_run_is_not_repeated(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    (tmp_path / "report.json").touch()
    pipeline().run(tmp_path, {"seed": 0})
    assert "nothing to do" in capsys.readouterr().out

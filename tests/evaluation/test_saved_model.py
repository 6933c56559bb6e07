import pytest
import yaml

from limbeck.errors import UserError
from limbeck.evaluation.saved_model import compared, settings_of_run
from limbeck.model import save

from .conftest import tiny_model

SAVED = {
    "data": {"kind": "cats", "resolution": 32},
    "protocol": {"num_images": 64, "seed": 7, "metrics": {"kid_random": {"folds": 2}}},
    "teacher": {"path": "t"},
    "kimg": 3,
}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(SAVED))
    save(tiny_model(), folder / "student.safetensors")
    return folder


def settings(model, *overrides, **changes):
    composed = {
        "model": str(model),
        "data": {"kind": "robots", "resolution": 64},
        "protocol": {"num_images": 10000, "seed": 0, "metrics": {"fid": {"folds": 3}}},
        **changes,
    }
    return settings_of_run(composed, overrides)


def test_a_run_brings_its_data_protocol_and_teacher(run):
    found = settings(run, f"model={run}")
    assert {name: found[name] for name in ("data", "protocol", "teacher")} == {
        name: SAVED[name] for name in ("data", "protocol", "teacher")
    }
    assert "kimg" not in found


def test_the_command_line_goes_first(run):
    assert settings(run, "data=robohash")["data"] == {"kind": "robots", "resolution": 64}
    assert settings(run, "data.kind=robots")["data"] == {"kind": "robots", "resolution": 32}
    assert settings(run, "protocol.num_images=10000")["protocol"] == {**SAVED["protocol"], "num_images": 10000}
    assert settings(run, "protocol=lite0")["protocol"]["metrics"] == {"fid": {"folds": 3}}


@pytest.mark.parametrize("override", ["metric=[fid]", "embeddings.inception.path=x", "metric.fid.folds=3"])
def test_named_metrics_replace_those_of_the_run(run, override):
    assert settings(run, override)["protocol"] == {**SAVED["protocol"], "metrics": {"fid": {"folds": 3}}}


def test_a_file_brings_nothing(run):
    found = settings(run / "student.safetensors")
    assert found["protocol"]["num_images"] == 10000
    assert "teacher" not in found


@pytest.mark.parametrize("text", ["", "{", "a: 1"])
def test_an_unreadable_configuration_is_refused_in_one_line(run, text):
    (run / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"not the folder of a run \(config.yaml") as refusal:
        settings(run)
    assert "\n" not in str(refusal.value)


def test_which_models_are_judged(run, tmp_path):
    other = save(tiny_model(1), tmp_path / "other.safetensors")
    assert list(compared(str(run), reference="auto", teacher=tiny_model)) == ["teacher", "student"]
    assert list(compared(str(run), reference=None, teacher=tiny_model)) == ["student"]
    assert list(compared(str(other), reference="auto")) == ["model"]
    assert list(compared(str(run), reference=str(other))) == ["teacher", "student"]


def test_what_cannot_be_judged_is_refused(run, tmp_path):
    def missing():
        raise UserError("teacher.path=t: no such file")

    with pytest.raises(UserError, match="model: not set"):
        compared(None)
    with pytest.raises(UserError, match=r"not found: .*nowhere"):
        compared(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"no such file; or evaluate without teacher: reference=null"):
        compared(str(run), reference="auto", teacher=missing)
    small = save(tiny_model(resolution=8, widths=[8] * 4), tmp_path / "small.safetensors")
    with pytest.raises(UserError, match=r"reference=.*\(3, 8, 16\), those of the model \(3, 16, 16\)"):
        compared(str(run), reference=str(small))

"""Kinds of values: by name, wherever they stand."""

import pytest
from omegaconf import OmegaConf

from limbeck.errors import UserError
from limbeck.kinds import _kinds, leaves, refuse_wrong_kinds


def settled(changed, default=None, overrides=()):
    config = OmegaConf.create(changed)
    refuse_wrong_kinds(config, OmegaConf.create(default or {}), overrides)
    return OmegaConf.to_container(config)


def test_a_whole_number_written_with_a_point_becomes_whole():
    found = settled({"protocol": {"num_images": 3.2e1}, "teacher": {"widths": [16.0, 8]}, "kimg": 30})
    assert found == {"protocol": {"num_images": 32}, "teacher": {"widths": [16, 8]}, "kimg": 30}
    assert isinstance(found["protocol"]["num_images"], int)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"protocol": {"num_images": 32.5}}, r"protocol.num_images=32.5: must be a whole number, such as 32 or 33"),
        ({"protocol": {"num_reference": 2.5}}, "protocol.num_reference=2.5: must be a whole"),
        ({"distillation": {"micro_batch_size": 0.5}}, "distillation.micro_batch_size=0.5: must be a whole"),
        ({"teacher": {"generator": {"widths": [8, 8.5]}}}, "teacher.generator.widths.1=8.5"),
        ({"kimg": float("inf")}, "kimg=inf: must be a finite number"),
        ({"optimizer": {"generator": {"lr": float("nan")}}}, "optimizer.generator.lr=nan: must be a finite"),
        ({"pruning": {"ratio": True}}, "pruning.ratio=True: must be a number"),
        ({"data": {"num_workers": -1}}, "data.num_workers=-1: must be at least 0"),
        ({"metric": {"kid": {"subset_size": "many"}}}, "metric.kid.subset_size='many': must be a whole number"),
    ],
)
def test_other_kinds_are_refused_by_name(config, message):
    with pytest.raises(UserError, match=message):
        settled(config)


def test_an_override_keeps_the_kind_that_the_choice_has():
    with pytest.raises(UserError, match=r"x\.own='many': must be a number"):
        settled({"x": {"own": "many"}}, {"x": {"own": 3}}, ["x.own=many"])
    with pytest.raises(UserError, match=r"x\.switch=1: must be true or false"):
        settled({"x": {"switch": 1}}, {"x": {"switch": False}}, ["+x.switch=1"])
    assert settled({"trainer": {"devices": [1]}}, {"trainer": {"devices": 1}}, ["trainer.devices=[1]"])


def test_interpolations_are_left_to_what_they_point_at():
    assert settled({"seed": 1, "protocol": {"seed": "${seed}"}})["protocol"]["seed"] == "${seed}"


def test_names_that_the_files_write_whole_are_whole_and_lengths_never():
    kinds = _kinds()
    assert {kinds[n] for n in ("num_images", "batch_size", "micro_batch_size", "seed", "every_steps", "widths")} == {
        int
    }
    assert {kinds[n] for n in ("kimg", "checkpoint_kimg", "log_every_seconds", "ratio", "lr", "weight")} == {float}
    assert "devices" not in kinds  # a number or "auto"


def test_leaves_of_a_tree():
    assert dict(leaves({"a": {"b": 1, "c": [2, {"d": None}]}})) == {"a.b": 1, "a.c.0": 2, "a.c.1.d": None}

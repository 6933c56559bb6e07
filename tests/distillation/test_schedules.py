import pytest

from limbeck.distillation.schedules import ema_decay, lazy_correction, learning_rate_scale
from limbeck.errors import UserError


def test_half_of_the_average_is_replaced_after_one_half_life():
    decay = ema_decay(32, 10.0, images_seen=10**6)
    assert decay ** (10_000 / 32) == pytest.approx(0.5)
    assert decay == pytest.approx(0.99778, abs=1e-5)  # the published constant 0.5 ** (32 / 10000)


def test_ramp_up_shortens_the_half_life_early():
    assert ema_decay(32, 10.0, 0, ramp_up=0.05) == 0.0
    assert ema_decay(32, 10.0, 1000, ramp_up=0.05) == pytest.approx(0.5 ** (32 / 50))
    assert ema_decay(32, 10.0, 10**7, ramp_up=0.05) == ema_decay(32, 10.0, 0)


def test_lazy_correction_is_that_of_the_official_release():
    assert lazy_correction([1, 4]) == pytest.approx(4 / 5)
    assert lazy_correction([1, 16]) == pytest.approx(16 / 17)
    assert lazy_correction([1]) == 1.0


def test_learning_rate_rises_stays_and_falls():
    scale = [learning_rate_scale(k, 100, warmup_kimg=10, decay_kimg=20) for k in (0, 5, 10, 50, 80, 90, 100)]
    assert scale == pytest.approx([0, 0.5, 1, 1, 1, 0.5, 0])
    assert [learning_rate_scale(k, 10, decay_kimg=11) for k in (0, 5, 10)] == [1.0, 0.5, 0.0]  # shortened with the run
    assert [learning_rate_scale(k, 10, warmup_kimg=5, decay_kimg=11) for k in (0, 5, 7.5, 10)] == [0.0, 1.0, 0.5, 0.0]
    with pytest.raises(UserError, match=r"distillation.warmup_kimg=11"):
        learning_rate_scale(0, 10, warmup_kimg=11)
    with pytest.raises(UserError, match=r"distillation.decay_kimg=-1"):
        learning_rate_scale(0, 10, decay_kimg=-1)

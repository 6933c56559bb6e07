"""What is said of a run before it begins, by hand."""

import limbeck
from limbeck.architectures.dcgan import Generator
from limbeck.distillation.pace import Pace
from limbeck.forecast import costs, expected


def test_costs_are_told_beside_the_teachers():
    teacher = limbeck.Model(Generator(resolution=8, num_channels=3, z_dim=4, width=8))
    assert costs(teacher, teacher).count("(÷ 1)") == 2


def test_time_and_memory():
    assert list(expected(Pace(0.01, 1536.0), kimg=20, num_steps=10)) == [
        "training about 3:20 (100 images/s over 10 steps)",
        "1.5 GiB",
    ]
    *_, hint = expected(Pace(0.5, 2048.0), kimg=1000, num_steps=10)
    assert hint == "kimg=72 would be one night"  # 36,000 s


def test_nothing_is_made_up():
    unknown = ["how long training takes shows once it runs"]
    assert list(expected(None, kimg=1, num_steps=10)) == unknown
    assert list(expected(Pace(0.0, 100.0), kimg=0.01, num_steps=10)) == unknown

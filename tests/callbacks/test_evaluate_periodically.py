"""Metrics during training."""

from limbeck.callbacks.evaluate_periodically import EvaluatePeriodically
from limbeck.model import Model

from .conftest import Counting


class Asked:
    """A protocol that notes what it is asked to judge."""

    def __init__(self):
        self.calls, self.checked = [], []

    def check(self, generator, data):
        self.checked.append((generator, data))

    def __call__(self, model, *, data, teacher=None, device="cpu"):
        self.calls.append((model.generator, data, None if teacher is None else teacher.generator, str(device)))
        return {"kid_lite0": 0.5 / len(self.calls)}


def test_the_average_is_judged_beside_the_teacher_at_every_interval_but_the_last(train, generator):
    student, teacher, protocol = generator(), generator(), Asked()
    callback = EvaluatePeriodically(protocol=protocol, data="images", every_kimg=0.5)
    logger = train(Counting(student, teacher, 1_500), callback)
    assert protocol.calls == [(student, "images", teacher, "cpu")] * 2
    assert logger.rows == [{"kimg": 0.5, "metric/kid_lite0": 0.5}, {"kimg": 1.0, "metric/kid_lite0": 0.25}]
    assert logger.evaluations == [("student", {"kid_lite0": 0.5}, 0.5), ("student", {"kid_lite0": 0.25}, 1.0)]


def test_without_teacher(train, generator):
    protocol = Asked()
    train(
        Counting(generator(), None, 1_000),
        EvaluatePeriodically(protocol=protocol, data=None, every_kimg=0.5),
        start=300,
    )
    assert [call[2] for call in protocol.calls] == [None]


def test_its_protocol_is_checked_before_a_run(generator):
    protocol, teacher = Asked(), Model(generator())
    EvaluatePeriodically(protocol=protocol, data="images", every_kimg=0.5).check(teacher)
    assert protocol.checked == [(teacher.generator, "images")]

"""Who is trained by what, in the real loop."""

import copy

import pytest
import torch

from limbeck.callbacks.checkpoint import Checkpoint
from limbeck.distillation.discriminators import Both, Fresh, FromTeacher, Gated
from limbeck.distillation.gan import GanDistillation
from limbeck.distillation.gates import Gates
from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.losses.gcc import Collaborative
from limbeck.losses.nickel import Nickel
from limbeck.losses.pixel_l1 import PixelL1
from limbeck.losses.regularization import R1, PathLength
from limbeck.losses.relation import Relation
from limbeck.losses.weighted import Term, Weighted

from .training import adam, adversarial, companion, same, state

pl = imported("pytorch_lightning")


class Noting(Term):
    """Adds nothing; remembers at how many images it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, step):
        self.asked.append(step.images_seen)
        parameters = step.players.student if hasattr(step, "student_image") else step.players.discriminators["fresh"]
        return 0.0 * next(parameters.parameters()).sum()


@pytest.fixture
def judges(pair):
    torch.manual_seed(3)
    return Both()(pair)


def test_all_players_learn_and_the_teacher_does_not(train, pair, judges):
    before = {name: state(judge) for name, judge in judges.items()}
    teacher = state(pair.teacher.generator)
    module = train(judges)
    assert not same(before["fresh"], state(module.judges["fresh"]))
    assert not same(before["teacher"], state(module.judges["teacher"]))
    assert not same(state(pair.student.generator), state(module.student))
    assert same(teacher, state(module.teacher.network))
    assert int(module.images_seen) == 8


def test_lazy_steps_fall_on_multiples_of_their_cadence(train, judges):
    lazy, often = Noting(), Noting()
    terms = {"lazy": Weighted(term=lazy, every_steps=16), "often": Weighted(term=often, every_steps=4)}
    train(judges, steps=18, discriminator_terms={"lazy": terms["lazy"]}, generator_terms={"often": terms["often"]})
    assert [n // 4 for n in lazy.asked] == [0, 16]
    assert [n // 4 for n in often.asked] == [0, 4, 8, 12, 16]


def test_the_teachers_discriminator_does_not_feel_nickel(train, pair, judges):
    def trained(weight):
        nickel = Weighted(term=Nickel(), weight=weight)
        return train(copy.deepcopy(judges), steps=1, discriminator_terms={"nickel": nickel}).judges

    without, strong = trained(0.0), trained(1000.0)
    assert same(state(without["teacher"]), state(strong["teacher"]))
    assert not same(state(without["fresh"]), state(strong["fresh"]))


def test_terms_of_weight_zero_leave_the_update_as_it_is(train, judges):
    """The further networks and draws must not shift the random numbers of the rest; only relation draws its own."""
    plain = train({"fresh": copy.deepcopy(judges["fresh"])}, steps=3)
    off = train(
        {"fresh": copy.deepcopy(judges["fresh"])},
        steps=3,
        generator_terms={"pixel_l1": Weighted(term=PixelL1(), weight=0.0)},
        discriminator_terms={"nickel": Weighted(term=Nickel(), weight=0.0)},
    )
    for role in ("student", "judges"):
        torch.testing.assert_close(state(getattr(off, role)), state(getattr(plain, role)), rtol=1e-4, atol=1e-5)


def test_micro_batches_give_the_update_of_the_whole_batch(train, pair):
    """A smaller last one counts by its size; latents do not depend on the cut, and the mean style moves once a step."""
    torch.manual_seed(3)
    judge, networks = Fresh()(pair)["fresh"], {}
    for size in (None, 3):
        module = train(
            {"fresh": copy.deepcopy(judge)},
            steps=1,
            make=lambda p, lr: torch.optim.SGD(p, lr=0.1),  # Adam would magnify rounding
            generator_terms={"pixel_l1": Weighted(term=PixelL1(), weight=3.0)},
            discriminator_terms={"r1": Weighted(term=R1(), weight=1.0, every_steps=16, batch_share=1.0)},
            mixing_probability=0.5,
            micro_batch_size=size,
        )
        networks[size] = state(module.student), state(module.judges), module.last_losses
    for parts, whole in zip(networks[3], networks[None], strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_a_frozen_judge_judges_and_stays(train, pair):
    judge = FromTeacher(frozen=True)(pair)["teacher"]
    assert isinstance(judge, Frozen)
    before = state(judge.network)
    module = train({"fresh": Fresh()(pair)["fresh"], "teacher": judge})
    assert same(before, state(module.judges["teacher"].network))
    assert len(module.trainer.optimizers) == 2
    assert not any("judges.teacher" in name for name in module.state_dict())
    alone = train({"teacher": judge})
    assert len(alone.trainer.optimizers) == 1
    assert not same(state(pair.student.generator), state(alone.student))


def test_no_judge_is_needed_where_no_term_asks_one(pair):
    alone = {"judges": {}, "discriminator_terms": {}, "kimg": 0.008, "batch_size": 4, "generator_optimizer": adam(1e-3)}
    module = GanDistillation(pair, generator_terms={"pixel_l1": Weighted(term=PixelL1())}, **alone)
    assert module.final_judge() is None
    assert len(module.configure_optimizers()) == 1
    asking, theirs = adversarial()
    with pytest.raises(
        UserError, match=r"discriminator=none: loss/generator 'nonsaturating' needs one; allowed: fresh"
    ):
        GanDistillation(pair, generator_terms=asking, **alone)
    with pytest.raises(UserError, match=r"loss/discriminator: the chosen distillation has no such player; select \[\]"):
        GanDistillation(pair, generator_terms=asking, **alone | {"discriminator_terms": theirs})


def test_an_adapter_is_trained_with_the_first_judge_and_kept_in_checkpoints(train, pair):
    torch.manual_seed(3)
    judge = type(pair.teacher.discriminator)(resolution=16, widths=[8, 8, 6], group_size=1)
    object.__setattr__(pair.teacher, "discriminator", judge)
    nickel = Nickel()
    module = train({"fresh": copy.deepcopy(judge)}, discriminator_terms={"nickel": Weighted(term=nickel)})
    fresh = Nickel()
    fresh.prepare(pair, half=False)
    assert not torch.equal(fresh.adapter.weight, nickel.adapter.weight)
    assert "term_states.discriminator.nickel.term.adapter.weight" in module.state_dict()


class Killed(pl.Callback):
    """Dies after two steps."""

    def on_train_batch_end(self, trainer, module, *others):
        if int(module.images_seen) == 8:
            raise InterruptedError


def test_a_run_with_adapters_companions_and_running_means_resumes_bit_for_bit(train, pair, tmp_path):
    judge = type(pair.teacher.discriminator)(resolution=16, widths=[8, 8, 6], group_size=1)
    object.__setattr__(pair.teacher, "discriminator", judge)

    def trained(**settings):
        torch.manual_seed(3)
        return train(
            Gated()(pair),
            steps=5,
            generator_terms={
                "gcc": Weighted(term=Collaborative(generator_resolutions=[8], discriminator_resolutions=[8])),
                "path_length": Weighted(term=PathLength(), weight=2.0, every_steps=4, batch_share=0.5),
                "relation": Weighted(term=Relation(resolutions=[8]), weight=30.0),
            },
            discriminator_terms={"nickel": Weighted(term=Nickel()), "r1": Weighted(term=R1(), every_steps=3)},
            companions={"online": companion(), "gates": Gates(optimizer=adam(0.3))},
            noise="random",
            mixing_probability=0.9,
            **settings,
        )

    whole, path = trained(), tmp_path / "last.ckpt"
    with pytest.raises(InterruptedError):
        trained(callbacks=[Checkpoint(tmp_path, every_kimg=0.008), Killed()])
    resumed = trained(callbacks=[Checkpoint(tmp_path / "other", every_kimg=1.0)], resume=(path, 2))
    assert int(resumed.images_seen) == 20
    assert same(state(whole), state(resumed))


def test_everything_together(train, judges):
    module = train(
        judges,
        generator_terms={
            "relation": Weighted(term=Relation(resolutions=[8, 16]), weight=30.0),
            "pixel_l1": Weighted(term=PixelL1(), weight=3.0),
            "path_length": Weighted(term=PathLength(), weight=2.0, every_steps=4, batch_share=0.5),
        },
        discriminator_terms={
            "nickel": Weighted(term=Nickel(), weight=10.0),
            "r1": Weighted(term=R1(), weight=1.0, every_steps=16),
        },
        micro_batch_size=2,
    )
    assert all(value == value for value in module.check_finite().values())

import copy

import pytest

from limbeck.distillation.discriminators import Fresh
from limbeck.errors import UserError
from limbeck.losses.gcc import Collaborative
from limbeck.losses.weighted import Weighted

from .training import companion, same, state


def gcc() -> dict[str, Weighted]:
    return {"gcc": Weighted(term=Collaborative(generator_resolutions=[8], discriminator_resolutions=[8]))}


def test_the_teacher_learns_in_a_copy_that_the_student_sees(train, pair):
    original = state(pair.teacher.generator), state(pair.teacher.discriminator)
    online = companion()
    module = train(Fresh()(pair), companions={"online": online}, generator_terms=gcc())
    assert module.teacher.network is online.generator
    assert not same(original[0], state(online.generator))
    assert not same(original[1], state(online.discriminator))
    assert same(original[0], state(pair.teacher.generator))
    assert same(original[1], state(pair.teacher.discriminator))
    assert {"companions.online.generator.synthesis.b4.const"} <= module.state_dict().keys()
    assert {"loss/teacher_generator/nonsaturating", "loss/generator/gcc"} <= module.last_losses.keys()


def test_only_its_own_losses_teach_it(train, pair):
    """With a learning rate of 0 of its own, nothing of the student's turn moves the teacher."""
    online = companion(lr=0.0)
    module = train(Fresh()(pair), companions={"online": online}, generator_terms=gcc())
    assert same(state(pair.teacher.generator), state(module.teacher.network))
    assert len(module.trainer.optimizers) == 4


def test_without_it_the_teacher_stays(train, pair):
    before = state(pair.teacher.discriminator)
    module = train(Fresh()(pair), generator_terms=gcc())
    assert same(before, state(module.teacher_judge.network))


def test_a_fresh_teacher_starts_from_its_seed(train, pair):
    starts = []
    for seed in (1, 1, 2):
        online = companion(lr=0.0, fresh=True, seed=seed)
        module = train(copy.deepcopy(Fresh()(pair)), steps=1, companions={"online": online})
        starts.append(state(module.teacher.network))
    assert same(starts[0], starts[1])
    assert not same(starts[0], starts[2])
    assert not same(starts[0], state(pair.teacher.generator))


def test_a_file_without_discriminator_is_refused(train, pair):
    judges = Fresh()(pair)
    object.__setattr__(pair.teacher, "discriminator", None)
    with pytest.raises(UserError, match="discriminator is read"):
        train(judges, generator_terms=gcc())

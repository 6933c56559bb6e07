"""One policy for all trainers, and TF32 in no turn that differentiates twice."""

import copy
from pathlib import Path

import pytest
import torch
import yaml

from limbeck.distillation.discriminators import Fresh
from limbeck.distillation.trainer import Arithmetic, trainer
from limbeck.errors import UserError
from limbeck.losses.regularization import R1, PathLength
from limbeck.losses.weighted import Term, Weighted

TRAINERS = Path(__file__).parents[2] / "conf" / "trainer"


class Watching(Term):
    """Adds nothing; notes whether products may round in its turn, forwards and backwards."""

    def __init__(self, *, exact=False):
        super().__init__()
        self.exact, self.seen = exact, []

    def forward(self, step):
        parameter = next(step.players.discriminators["fresh"].parameters())
        self.seen.append(torch.backends.cudnn.allow_tf32)
        value = 0.0 * parameter.sum()
        value.register_hook(lambda _: self.seen.append(torch.backends.cudnn.allow_tf32))
        return value


def test_the_trainers_agree_but_for_devices():
    settings = {path.stem: yaml.safe_load(path.read_text()) for path in TRAINERS.glob("*.yaml")}
    assert set(settings) == {"auto", "cpu", "gpu", "ddp", "multinode"}
    for name, facts in settings.items():
        assert facts["_target_"] == "limbeck.distillation.trainer.trainer"
        assert facts["precision"] == ("32-true" if name == "cpu" else "auto")
        assert (facts["benchmark"], facts["tf32"], facts["compile"]) == (True, False, "none")


@pytest.mark.parametrize("tf32", [True, False])
def test_ordinary_turns_may_round_and_others_never(train, pair, tf32):
    torch.manual_seed(3)
    ordinary, lazy, plain = Watching(), Watching(exact=True), Watching()
    terms = {
        "ordinary": Weighted(term=ordinary),
        "lazy": Weighted(term=lazy, every_steps=2),
        "plain": Weighted(term=plain, every_steps=3),
    }
    judge = copy.deepcopy(Fresh()(pair)["fresh"])
    train({"fresh": judge}, discriminator_terms=terms, callbacks=[Arithmetic(tf32=tf32, compile="none")])
    assert set(ordinary.seen) == set(plain.seen) == {tf32}
    assert lazy.seen
    assert not any(lazy.seen)


def test_terms_that_differentiate_twice_say_so():
    assert R1.exact
    assert PathLength.exact
    assert not Term.exact


def test_unknown_words_are_refused():
    with pytest.raises(UserError, match=r"trainer.compile='some': allowed: none, frozen, all"):
        trainer(compile="some")

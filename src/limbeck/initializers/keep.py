"""Start from the pruned weights as they are: the baseline of CAGAN and DCP-GAN."""

from limbeck.model import Pair


class Keep:
    """Pair to pair: nothing changes but the history."""

    def __call__(self, pair: Pair) -> Pair:
        return Pair(teacher=pair.teacher, student=pair.student.after("initialize", initializer="keep"))

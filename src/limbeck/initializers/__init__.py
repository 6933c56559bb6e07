"""Pruned student to the student that is trained: same shapes, new values. Each stage maps a pair to a new pair."""

from limbeck.initializers.keep import Keep
from limbeck.initializers.random import Random
from limbeck.initializers.svs import SingularValueScaling, svs

__all__ = ["Keep", "Random", "SingularValueScaling", "svs"]

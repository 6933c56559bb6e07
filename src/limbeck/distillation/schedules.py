"""Everything that changes over a run, as a function of images seen."""

from limbeck.errors import UserError


def ema_decay(batch_size: int, half_life_kimg: float, images_seen: int, ramp_up: float | None = None) -> float:
    """Weight kept by the running average in one step: 0.5 ** (batch / half-life), both in images.

    ramp_up: the half-life grows as `ramp_up * images_seen` until it reaches its value; None for no ramp.

    Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020, released code.
    """
    half_life = half_life_kimg * 1000
    if ramp_up is not None:
        half_life = min(half_life, ramp_up * images_seen)
    return 0.5 ** (batch_size / max(half_life, 1e-8))


def lazy_correction(cadences: list[int]) -> float:
    """Share of optimizer steps that are ordinary: 1 / (1 + sum of 1/k over the lazy cadences k).

    Learning rate and beta exponents are multiplied by it; one cadence k gives k / (k + 1).

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, appendix B.
    """
    return 1 / (1 + sum(1 / k for k in cadences if k > 1))


def learning_rate_scale(kimg: float, total_kimg: float, *, warmup_kimg: float = 0.0, decay_kimg: float = 0.0) -> float:
    """Factor in [0, 1]: a linear rise over the first `warmup_kimg`, a linear fall to 0 over the last `decay_kimg`.

    The fall is at most as long as what the rise leaves, so that a run can be cut short without touching it.

    Raises: UserError if the rise does not fit into the run.
    """
    if not 0 <= warmup_kimg <= total_kimg:
        raise UserError(f"distillation.warmup_kimg={warmup_kimg}: must lie in [0, kimg={total_kimg:g}]")
    if decay_kimg < 0:
        raise UserError(f"distillation.decay_kimg={decay_kimg}: must be at least 0")
    decay_kimg = min(decay_kimg, total_kimg - warmup_kimg)
    rise = min(kimg / warmup_kimg, 1.0) if warmup_kimg else 1.0
    fall = min((total_kimg - kimg) / decay_kimg, 1.0) if decay_kimg else 1.0
    return max(min(rise, fall), 0.0)

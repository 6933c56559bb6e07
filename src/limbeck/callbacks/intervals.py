"""When something that happens every so many images is due."""


def is_due(before: int, now: int, every_kimg: float) -> bool:
    """Whether a multiple of `every_kimg` thousand images lies in (before, now]; counts are images."""
    interval = max(1, round(every_kimg * 1000))
    return before // interval != now // interval

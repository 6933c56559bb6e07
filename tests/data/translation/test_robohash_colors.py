"""Robots in several colors: labels, truths of every change, and held-out robots that stay apart."""

import numpy as np
import pytest
import torch

from limbeck.configured import configured
from limbeck.data.translation.robohash_colors import RoboHashColors
from limbeck.errors import UserError


def test_robots_of_several_colors():
    source = configured("data", "robohash_colors")
    facts = source.open()
    assert (facts.num_classes, facts.num_images) == (5, 5 * 95_000)
    robots, labels = source.train().batch(np.arange(10))
    assert torch.equal(labels, torch.eye(5).repeat(2, 1))
    means = robots.float().mean(dim=(2, 3))
    # The same robot: blue is bluest, red reddest, and all have the same shape, white where nothing is.
    for first in (0, 5):
        assert (means[first, 2] - means[first, 0]) > 10
        assert (means[first + 2, 0] - means[first + 2, 2]) > 10
    sources, told = source.sources().batch(np.arange(25))
    targets = source.targets().batch(np.arange(25))[0]
    assert torch.equal(told, torch.eye(5).repeat(5, 1))
    for item in range(5):  # each color of the first robot, asked for each color
        for color in range(5):
            assert torch.equal(targets[5 * item + color], targets[color])
            assert torch.equal(sources[5 * item + color], targets[item])
    assert len(source.sources()) == len(source.targets()) == 5 * 5 * 5000


def test_wrong_settings():
    with pytest.raises(UserError, match=r"data\.colors=\['blue', 'gold'\]: allowed: two or more of blue, brown"):
        RoboHashColors(colors=["blue", "gold"]).open()


@pytest.mark.slow
def test_no_held_out_robot_is_trained_on():
    """Of every color, all pictures: bytes compared by their hash."""
    source = RoboHashColors(colors=["blue", "red"])
    for color in range(2):
        found = []
        for part in ("train", "heldout"):
            portraits = source._robots(part).colors[color]
            seen = set()
            for start in range(0, len(portraits), 5000):
                images = portraits.batch(np.arange(start, min(start + 5000, len(portraits))))[0].numpy()
                seen |= {hash(image.tobytes()) for image in images}
            found.append(seen)
        assert not found[0] & found[1]

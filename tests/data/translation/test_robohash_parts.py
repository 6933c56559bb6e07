"""Maps of parts and pictures belong together, and held-out ones stay apart."""

import numpy as np
import torch

from limbeck.data.translation.robohash_parts import RoboHashParts, seen_shares

SOME = np.arange(40)


def test_shares_by_hand():
    below, above = np.array([[[0.0, 1.0, 0.0]]]), np.array([[[1.0, 1.0, 0.2]]])
    found = seen_shares([below, above])
    assert found[0, :, 0].T.tolist() == [[0, 255, 0], [255, 0, 0], [0, 51, 204]]


def test_maps_give_the_picture_again():
    source = RoboHashParts(resolution=32)
    images, labels, shares = source.train().batch(SOME[:6])
    assert source.open().resolution == 32
    assert (shares.shape, labels.tolist()) == ((6, 6, 32, 32), [0] * 6)
    portraits = source.portraits
    assert torch.equal(images, portraits.train().batch(SOME[:6])[0])
    picture = shares[:, :1].numpy().astype(float).repeat(3, axis=1)  # the background is white
    for layer, digit in enumerate(portraits.train().digits(SOME[:6])):
        part = portraits.parts[layer][digit]
        opacity = 1 - part[:, 3:]
        color = np.divide(part[:, :3], opacity, out=np.zeros_like(part[:, :3]), where=opacity > 0)
        picture += color * shares[:, layer + 1 : layer + 2].numpy() / 255
    assert np.abs(shares.numpy().astype(int).sum(axis=1) - 255).max() <= 3  # six shares, each rounded to bytes
    assert np.abs(picture - images.numpy()).max() <= 4
    assert torch.equal(source.targets().batch(SOME)[0], portraits.heldout().batch(SOME)[0])
    assert torch.equal(source.sources().batch(SOME)[0], source._pairs(portraits.heldout()).batch(SOME)[2])

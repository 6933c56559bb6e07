"""Packed masks in files: bits by hand, and files that lie about them."""

import pytest
import torch

from limbeck.errors import CheckpointError, UserError
from limbeck.masking import packed, packed_bits, switch_off, unpacked, unpacked_bits


def test_bits_by_hand():
    mask = torch.tensor([[True, False, True], [False, False, False], [False, True, True]])
    assert packed_bits(mask).tolist() == [0b10100001, 0b10000000]
    assert torch.equal(unpacked_bits(packed_bits(mask), mask.shape), mask)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_kept_values_go_in_row_major_order(memory_format):
    tensor = torch.arange(24.0).reshape(1, 4, 2, 3).to(memory_format=memory_format)
    mask = (tensor % 5 == 0).to(memory_format=memory_format)
    held = dict(packed("w", tensor, mask))
    assert held["w:kept"].tolist() == [0, 5, 10, 15, 20]
    again, found = unpacked("w", held, tensor.shape, where="x")
    assert not held
    assert torch.equal(again, tensor * mask)
    assert torch.equal(found, mask)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"w:mask": torch.zeros(3, dtype=torch.uint8)}, r"'w:mask': a mask of 10 entries takes 2 bytes"),
        ({"w:mask": torch.zeros(2)}, r"'w:mask': a mask of 10 entries takes 2 bytes"),
        ({"w:mask": torch.tensor([0, 1], dtype=torch.uint8)}, "bits set beyond"),
        ({"w:mask": torch.tensor([128, 0], dtype=torch.uint8)}, r"'w:kept' has shape \(2,\), expected \(1,\)"),
        ({"w:kept": torch.zeros(2, 1)}, r"'w:kept' has shape \(2, 1\), expected \(2,\)"),
        ({"w:kept": None}, "'w:kept' is missing"),
    ],
)
def test_files_that_do_not_fit_are_refused_in_one_line(change, words):
    mask = torch.zeros(10, dtype=torch.bool)
    mask[[1, 4]] = True
    entries = {**dict(packed("w", torch.ones(10), mask)), **change}
    held = {name: value for name, value in entries.items() if value is not None}
    with pytest.raises(CheckpointError, match=words) as raised:
        unpacked("w", held, torch.Size([10]), where="file")
    assert str(raised.value).startswith("file: ")
    assert "\n" not in str(raised.value)


def test_switching_off_refuses_what_is_no_parameter():
    network = torch.nn.Linear(2, 3)
    unchecked = getattr(switch_off, "__wrapped__", switch_off)
    with pytest.raises(UserError, match="'other': no such parameter of a Linear"):
        unchecked(network, {"other": torch.ones(1, dtype=torch.bool)})

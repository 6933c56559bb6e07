"""Data for networks that translate images: batches with sources, held-out sources, and what they should become.

A folder of its own because these sets answer more questions than sets of images alone: `sources` and `targets`.
"""

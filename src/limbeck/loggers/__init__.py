"""Where a run's numbers and pictures go; every axis is kimg, thousands of images seen by training."""

from limbeck.embeddings.torchvision_shim import imported

imported("pytorch_lightning")  # it imports torchvision

"""Training regimes (LightningModules) and the stage that runs one."""

from limbeck.embeddings.torchvision_shim import imported

imported("pytorch_lightning")  # it imports torchvision

"""What happens beside training: progress, pictures, evaluations, checkpoints; all counted in images."""

from limbeck.embeddings.torchvision_shim import imported

imported("pytorch_lightning")  # it imports torchvision

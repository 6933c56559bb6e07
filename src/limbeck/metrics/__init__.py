"""Numbers that judge a model: torchmetrics' `Metric`s over any embedding, for a protocol or anyone's own loop."""

from limbeck.embeddings.torchvision_shim import imported

imported("torchmetrics")  # it imports torchvision

"""Content masks: image in, true where its content of interest lies; for pruning criteria and distillation alike."""

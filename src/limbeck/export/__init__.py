"""From a model to files that other programs read; each is compared with its source before it is kept."""

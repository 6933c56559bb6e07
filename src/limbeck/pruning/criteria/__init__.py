"""Ways to score channels, one file per method; a criterion sees only a model's groups and returns their scores."""

"""Image to feature vector, for metrics and for losses; weights are read when first used, never downloaded."""

"""Where real images come from: sources, and the loaders that read them in a fixed, resumable order."""

"""Where a run's numbers and pictures go; every axis is kimg, thousands of images seen by training."""

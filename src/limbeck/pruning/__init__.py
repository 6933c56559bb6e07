"""Which channels go, and the network without them: score -> allocate -> slim."""

"""Where teachers come from: files of any supported layout, or fresh networks."""

"""Numbers that judge a model: each metric asks for what it needs of lazily made samples."""

"""Models without a concept as other programs read them. The folder is the registry: one file a format."""

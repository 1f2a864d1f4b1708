"""Where annotated slices come from."""

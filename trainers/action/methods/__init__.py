"""One file a method; each registers itself by name."""

"""What the doctor looks at, one module a field; every check does a small piece of the real work."""

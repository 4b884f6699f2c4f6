"""Networks that methods share, one file each."""

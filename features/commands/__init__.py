"""The commands of ``python -m features``, a module each; `features.__main__` lists them."""

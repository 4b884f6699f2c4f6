"""The command ``python -m trainers.figures``; see `trainers.figures.command`."""

from pipeline.cli import run
from trainers.figures.command import main

if __name__ == "__main__":
    run(main)

"""`python -m trainers.figures`."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import UserError
from tests.trainers.figures.made_runs import write_run
from trainers.figures import main


def test_the_command(weighted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "weights.png"
    assert main([str(weighted), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert out.stat().st_size > 5000
    runs = tmp_path / "runs"
    for alpha, value in (("0", 20.0), ("0.5", 60.0)):
        write_run(runs, alpha=alpha, accuracy=value)
    with pytest.raises(UserError, match="name the folder of one"):
        main([str(runs), "--out", str(out)])
    figure = tmp_path / "alpha.svg"
    assert main([str(runs), "--figure", "accuracy", "--out", str(figure)]) == 0
    assert figure.read_text().startswith("<?xml")

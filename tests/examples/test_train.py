import runpy

import pytest
from tests.examples.test_examples import EXAMPLES


def test_train_and_forget(capsys: pytest.CaptureFixture[str]) -> None:
    receipt = runpy.run_path(str(EXAMPLES / "train_and_forget.py"))["main"]()
    assert receipt.method == "forgotten" and receipt.data["patients"] < 120
    kept = sum(stage["found"] for stage in receipt.stages)
    assert 0 < kept < len(receipt.stages) == 12
    assert "bit_identical_to_training_without_them" in capsys.readouterr().out

import runpy

import pytest
from tests.examples.test_examples import EXAMPLES


def test_train_and_forget(capsys: pytest.CaptureFixture[str]) -> None:
    receipt = runpy.run_path(str(EXAMPLES / "train_and_forget.py"))["main"]()
    assert receipt.method == "forgotten" and receipt.data["patients"] < 120
    kept = sum(stage["found"] for stage in receipt.stages)
    assert 0 < kept < len(receipt.stages) == 12
    assert "bit_identical_to_training_without_them" in capsys.readouterr().out


def test_fifteen_hospitals(capsys: pytest.CaptureFixture[str]) -> None:
    table = runpy.run_path(str(EXAMPLES / "fifteen_hospitals.py"))["main"]()
    central, apart, private, spoilt, drawn, hidden, caught, wrongly = table.values()
    assert abs(apart.value - central.value) < 0.03, (
        "how images are dealt hardly changes a sum over all of them"
    )
    assert 0.6 < private.value < apart.value and spoilt.value > 0.75
    assert drawn.value == 1.0 and hidden.value == 0.0 and hidden.high < 0.013
    assert caught.value == 1.0 and wrongly.value == 0.0
    assert "Images drawn out of gradients" in (said := capsys.readouterr().out) and "peer: 12 %" in said

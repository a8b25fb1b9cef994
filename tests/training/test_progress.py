import pytest

from multibox.training.epoch_figures import EpochFigures
from multibox.training.progress import RunProgress


def figures_of(*losses: tuple[float, float]) -> EpochFigures:
    figures = EpochFigures({})
    for confidence, localisation in losses:
        figures.add(confidence, localisation, pictures=4, waited=0.0)
    return figures


def test_figures_are_means_over_the_steps() -> None:
    figures = figures_of((3.0, 1.0), (1.0, 0.5), (2.0, 0.0))
    assert figures.loss == pytest.approx(2.5)
    row = figures.row()
    assert row["confidence_loss"] == pytest.approx(2.0)
    assert row["localisation_loss"] == pytest.approx(0.5)
    assert row["map"] is None
    assert EpochFigures({}).loss == 0


def test_speed_and_waiting_are_shares_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    figures = EpochFigures({})
    figures.add(1.0, 1.0, pictures=6, waited=0.5)
    figures.add(1.0, 1.0, pictures=4, waited=0.75)
    now = 105.0
    assert figures.pictures_per_second == 2
    assert figures.waiting == 0.25


def test_an_interrupted_epoch_is_finished_with_the_same_means() -> None:
    losses = [(3.0, 1.0), (1.0, 0.5), (7.0, 3.0)]
    whole = figures_of(*losses)
    second = EpochFigures(figures_of(*losses[:2]).sums())
    second.add(*losses[2], pictures=4, waited=0.0)
    assert second.loss == whole.loss
    assert second.row()["confidence_loss"] == whole.row()["confidence_loss"]


def test_plain_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = figures_of((3.0, 1.0))
    with RunProgress(epochs=5, steps=50, steps_done=10) as progress:
        progress.update(step=11, epoch=2, rate=0.01, figures=figures)
        assert capsys.readouterr().err == ""  # the next line is not yet due
        monkeypatch.setattr("multibox.training.progress._SECONDS_BETWEEN_LINES", 0.0)
        progress.update(step=12, epoch=2, rate=0.01, figures=figures)
        progress.say("epoch 2/5  [a name in brackets] " + "long " * 60)
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("epoch 2/5  loss 4.000  rate 0.01  ")
    assert "pictures/s" in first
    assert first.endswith(" left")
    assert "[a name in brackets]" in second
    assert "\x1b" not in err


def test_quiet_says_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multibox.training.progress._SECONDS_BETWEEN_LINES", 0.0)
    with RunProgress(epochs=5, steps=50, steps_done=0, quiet=True) as progress:
        progress.update(step=12, epoch=2, rate=0.01, figures=figures_of((3.0, 1.0)))
        progress.say("nothing")
    assert capsys.readouterr() == ("", "")

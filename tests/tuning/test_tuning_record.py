"""What a search says of its trials."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tiny_search import KERAS_TUNER_WARNINGS, SEARCH, TRAINING, rows

pytest.importorskip("keras_tuner")

from keras_scgm.augmentation import AugmentationConfig
from keras_scgm.datasets import AnnotatedVolume
from keras_scgm.training import SliceBatches, TrainingConfig
from keras_scgm.tuning import Trial, tune, tuners
from keras_scgm.tuning.results import draw_trials, highest_trials

pytestmark = KERAS_TUNER_WARNINGS


def test_a_line_for_each_trial(
    drawn_scores: list[TrainingConfig],
    batches: SliceBatches,
    volumes: Sequence[AnnotatedVolume],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = tune(SEARCH, TRAINING, batches, tmp_path, volumes, verbose=1)
    assert result is not None
    given, other = result.trials
    best = max((given, other), key=lambda trial: trial.val_dsc or 0)
    assert capsys.readouterr().out.splitlines() == [
        "trial_0 (1 of at most 2): validation DSC 0.8540, 0 epochs in 0 s; best: trial_0, validation DSC 0.8540",
        f"trial_1 (2 of at most 2): validation DSC {other.val_dsc:.4f}, 0 epochs in 0 s; "
        f"best: {best.name}, validation DSC {best.val_dsc:.4f}",
    ]
    tune(replace(SEARCH, trials=3), TRAINING, batches, tmp_path, volumes, resume=True)
    assert "trial_2" not in capsys.readouterr().out


def test_a_failed_trial_has_its_reason_in_the_line(
    drawn_scores: list[TrainingConfig],
    batches: SliceBatches,
    volumes: Sequence[AnnotatedVolume],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fine = tuners.train

    def second_fails(*arguments: Any, **options: Any) -> Any:
        if len(drawn_scores) == 1:
            monkeypatch.setattr(tuners, "train", fine)
            raise MemoryError("too large")
        return fine(*arguments, **options)

    monkeypatch.setattr(tuners, "train", second_fails)
    tune(SEARCH, TRAINING, batches, tmp_path, volumes, verbose=1)
    assert capsys.readouterr().out.splitlines()[1] == (
        "trial_1 (2 of at most 2): failed, MemoryError: too large; best: trial_0, validation DSC 0.8540"
    )


def test_equal_trials_are_not_called_best(
    drawn_scores: list[TrainingConfig],
    batches: SliceBatches,
    volumes: Sequence[AnnotatedVolume],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # They are scored by the rotation, which is the same in all.
    noises = replace(SEARCH, augmentation={"noise": (0.0, 0.3)}, trials=3)
    training = replace(TRAINING, augmentation=AugmentationConfig(rotation_degrees=10.0))
    result = tune(noises, training, batches, tmp_path, volumes, verbose=1)
    assert result is not None
    assert [trial.name for trial in result.highest] == ["trial_0", "trial_1", "trial_2"]
    assert result.config == training
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("; none is best: trial_0, trial_1 and trial_2 are equal, validation DSC 0.8000")
    assert [row["val_dsc"] for row in rows(tmp_path)] == ["0.8"] * 3


@pytest.mark.parametrize(
    ("scores", "highest", "title"),
    [
        ((0.5, 0.7, 0.6, None), ["trial_1"], "diamond: defaults, red: the best"),
        ((0.7, None, 0.6, 0.7), ["trial_0", "trial_3"], "diamond: defaults, red: equal, none is the best"),
        ((None, 0.0, 0.0, None), ["trial_1", "trial_2"], "diamond: defaults, red: equal, none is the best"),
    ],
)
def test_highest_trials_stand_out_in_the_picture(
    scores: Sequence[float | None], highest: list[str], title: str
) -> None:
    trials = [
        Trial(
            f"trial_{number}",
            "COMPLETED" if score is not None else "FAILED",
            score,
            1,
            1.0,
            {"noise": number},
        )
        for number, score in enumerate(scores)
    ]
    assert [trial.name for trial in highest_trials(trials)] == highest
    figure = draw_trials(trials)
    assert figure.get_suptitle() == title
    points = {line.get_xdata()[0]: (line.get_marker(), line.get_color()) for line in figure.axes[0].lines}
    assert points == {
        trial.number: ("o" if trial.number else "D", "#dc2626" if trial.name in highest else "#2563eb")
        for trial in trials
        if trial.val_dsc is not None
    }


def test_trials_without_a_value_have_no_point_in_its_panel() -> None:
    trials = [
        Trial("trial_0", "COMPLETED", 0.5, 1, 1.0, {"loss": "dice"}),
        Trial("trial_1", "COMPLETED", 0.6, 1, 1.0, {"loss": "both", "weight": 2.0}),
    ]
    loss, weight = draw_trials(trials).axes
    assert [len(axes.lines) for axes in (loss, weight)] == [2, 1]


def test_long_texts_of_values_do_not_touch() -> None:
    rates = ("6-12-18-24", "4-8-12-16", "3-6-12-18-24", "6-12-18-24-30")
    figure = draw_trials(
        [
            Trial(f"trial_{number}", "COMPLETED", 0.5, 1, 1.0, {"dilation_rates": rate, "noise": number})
            for number, rate in enumerate(rates)
        ]
    )
    figure.draw_without_rendering()
    texts, numbers = (axes.get_xticklabels() for axes in figure.axes)
    assert [label.get_text() for label in texts] == list(rates)
    # Texts that are turned about their end are apart if their ends are a line's height apart.
    boxes = [label.get_window_extent() for label in texts]
    assert all(label.get_rotation() == 30 for label in texts)
    assert all(right.x1 - left.x1 > 15 for left, right in pairwise(boxes))
    assert all(label.get_rotation() == 0 for label in numbers)

"""A whole adaptation: its files, resumption after a kill, and what the guard refuses."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tiny_adaptation import LENIENT, STRICT, TINY
from tiny_training import run_until_killed, weights_of

from keras_scgm.adaptation import AdaptationConfig, GuardConfig, Scans, adapt, find_scans
from keras_scgm.datasets import AnnotatedVolume
from keras_scgm.errors import InputError
from keras_scgm.models import load_network
from keras_scgm.segmentation import Segmenter

pytestmark = pytest.mark.usefixtures("drawn_once")


def equal(one: Path, other: Path) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(weights_of(one), weights_of(other), strict=True))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


KILLED = """
import sys
import tensorflow as tf
from tiny_adaptation import LENIENT, TINY
from tiny_training import Killed
from keras_scgm.adaptation import adapt, find_scans
tf.config.run_functions_eagerly(True)
adapt(find_scans(sys.argv[1])[0], sys.argv[3], sys.argv[2], TINY, LENIENT, callbacks=[Killed(3)])
"""


@pytest.mark.usefixtures("untraced")
def test_a_kill_changes_nothing_and_accepted_weights_segment(
    scan_folder: Path, start_weights: Path, tmp_path: Path
) -> None:
    scans, _ = find_scans(scan_folder)
    killed = tmp_path / "killed"
    run_until_killed(KILLED, scan_folder, start_weights, killed)
    # In the middle of the second epoch.
    assert len((killed / "log.csv").read_text().splitlines()) == 1 + 1
    start = str(start_weights)
    with pytest.raises(InputError, match="killed: holds an adaptation; go on with --resume"):
        adapt(scans, killed, start, TINY, LENIENT)
    other = replace(TINY, consistency_weight=9.0)
    with pytest.raises(InputError, match=r"another adaptation, consistency_weight was 3.0, now 9.0"):
        adapt(scans, killed, start, other, LENIENT, resume=True)
    with pytest.raises(InputError, match=r"it learned from other scans or masks \(a_rescan.nii.gz, "):
        adapt(Scans(scans.images[2:3]), killed, start, TINY, LENIENT, resume=True)
    resumed = adapt(scans, killed, start, TINY, LENIENT, resume=True)

    result = adapt(scans, tmp_path / "run", start, TINY, LENIENT)
    assert equal(resumed.last, result.last)
    assert resumed.judgement.to_json() == result.judgement.to_json()
    assert result.judgement.accepted
    assert result.adapted == tmp_path / "run" / "adapted.weights.h5"
    assert files(tmp_path / "run") >= {
        "adaptation.json", "changes.csv", "changes.png", "curves.png", "guard.json", "last.weights.h5", "log.csv",
    }  # fmt: skip
    assert not {"best.weights.h5", "best.json"} & files(tmp_path / "run")
    assert equal(result.adapted, result.last)
    assert not equal(result.adapted, start_weights)
    card = load_network(result.adapted)[1]
    assert (card.name, card.threshold, card.cord_threshold) == ("run", 0.4, 0.3)
    assert card.limits == "accepted by the guard"
    assert card.training["adaptation"]["window_px"] == 32
    assert "adapted on 9 slices without labels of a_rescan.nii.gz" in card.data
    assert Segmenter(result.adapted).segment(scan_folder / "b.nii.gz").mask_voxels.any()
    kept = json.loads((tmp_path / "run" / "adaptation.json").read_text())
    assert sorted([*kept["learned_from"], *kept["held_back"]]) == [path.name for path in scans.images]
    rows = (tmp_path / "run" / "changes.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * len(kept["held_back"])
    assert (tmp_path / "run" / "log.csv").read_text().startswith("epoch,consistency_loss,loss,mask_loss,")


@pytest.mark.usefixtures("untraced")
def test_a_poor_adaptation_is_refused(scan_folder: Path, start_weights: Path, tmp_path: Path) -> None:
    scans, _ = find_scans(scan_folder)
    poor = replace(TINY, epochs=1, learning_rate=5.0)
    guard = GuardConfig(synthetic_subjects=1)
    result = adapt(scans, tmp_path / "run", str(start_weights), poor, guard)
    assert not result.judgement.accepted
    assert result.adapted is None
    assert "adapted.weights.h5" not in files(tmp_path / "run")
    card = load_network(result.last)[1]
    assert card.limits.startswith("refused by the guard: predicted DSC of held-back scans, mean: ")
    assert json.loads((tmp_path / "run" / "guard.json").read_text())["accepted"] is False
    # The gray matter of the synthetic subjects is not known to this network either way.
    assert {check.name for check in result.judgement.checks if not check.passed} >= {
        "predicted DSC of held-back scans, mean",
        "DSC of the masks before and after",
    }


@pytest.mark.usefixtures("untraced")
def test_other_limits_judge_the_same_weights(scan_folder: Path, start_weights: Path, tmp_path: Path) -> None:
    scans, _ = find_scans(scan_folder)
    config = replace(TINY, statistics_only=True)
    accepted = adapt(scans, tmp_path / "run", str(start_weights), config, LENIENT)
    assert accepted.adapted is not None
    with pytest.raises(InputError, match="run: holds an adaptation; go on with --resume"):
        adapt(scans, tmp_path / "run", str(start_weights), config, LENIENT)
    before = weights_of(accepted.last)
    refused = adapt(scans, tmp_path / "run", str(start_weights), config, STRICT, resume=True)
    assert refused.adapted is None
    assert not {"adapted.weights.h5", "adapted.json"} & files(tmp_path / "run")
    for one, other in zip(before, weights_of(refused.last), strict=True):
        np.testing.assert_array_equal(one, other)
    # Nothing but the statistics differs from the start.
    changed = [not np.array_equal(*pair) for pair in zip(before, weights_of(start_weights), strict=True)]
    names = [weight.path for weight in load_network(start_weights)[0].weights]
    assert {name.split("/")[-1] for name, one in zip(names, changed, strict=True) if one} <= {
        "moving_mean",
        "moving_variance",
    }
    assert any(changed)


@pytest.mark.usefixtures("untraced")
def test_a_share_of_the_statistics_is_a_step_on_the_way(
    scan_folder: Path, start_weights: Path, tmp_path: Path
) -> None:
    scans, _ = find_scans(scan_folder)
    means = []
    for share in (0.25, 1.0):
        config = replace(TINY, statistics_only=True, statistics_share=share)
        adapted = adapt(scans, tmp_path / str(share), str(start_weights), config, LENIENT)
        means.append(weights_of(adapted.last))
    names = [weight.path for weight in load_network(start_weights)[0].weights]
    first = next(number for number, name in enumerate(names) if name.endswith("moving_mean"))
    start, (quarter, whole) = weights_of(start_weights)[first], (mean[first] for mean in means)
    np.testing.assert_allclose(quarter - start, 0.25 * (whole - start), rtol=1e-3, atol=1e-6)
    assert np.abs(whole - start).max() > 1e-3


@pytest.mark.usefixtures("untraced")
def test_labelled_slices_are_learned_from(scan_folder: Path, start_weights: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    image = nib.load(scan_folder / "b.nii.gz")
    mask = np.zeros(image.shape, np.uint8)
    mask[38:42, 36:40, 1] = 1
    nib.save(nib.Nifti1Image(mask, image.affine), few / "b_gmseg.nii.gz")
    scans, _ = find_scans(scan_folder / "b.nii.gz", few)
    config = replace(TINY, epochs=1)
    result = adapt(scans, tmp_path / "run", str(start_weights), config, LENIENT)
    assert "and 1 labelled slice" in load_network(result.last)[1].data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", r"adaptation.json: AdaptationRecord lacks adaptation, guard, .*; adapt in another folder"),
        ("{", "adaptation.json: AdaptationRecord is not JSON"),
        (
            '{"adaptation": 3, "guard": {}, "learned_from": {}, "held_back": {}}',
            "adaptation.json: AdaptationConfig must be a JSON object",
        ),
        (
            '{"adaptation": {}, "guard": {}, "learned_from": 3, "held_back": {}}',
            "adaptation.json: learned_from must be a mapping, received 3",
        ),
        (None, "adaptation.json: missing; adapt in another folder"),
    ],
)
def test_a_damaged_record_is_one_line(
    scan_folder: Path, start_weights: Path, tmp_path: Path, text: str | None, message: str
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "last.weights.h5").touch()
    if text is not None:
        (folder / "adaptation.json").write_text(text)
    scans, _ = find_scans(scan_folder)
    with pytest.raises(InputError, match=message):
        adapt(scans, folder, str(start_weights), AdaptationConfig(), resume=True)


def test_synthetic_subjects_are_of_all_sites(synthetic_subject: tuple[AnnotatedVolume, ...]) -> None:
    assert [volume.image.name for volume in synthetic_subject] == ["site1-sc01-image.nii.gz"]

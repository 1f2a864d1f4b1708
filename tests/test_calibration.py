"""Calibration of the threshold: scores at every threshold, the choice, and its files."""

import csv
import json
import shutil
from dataclasses import replace

import keras
import nibabel as nib
import numpy as np
import pytest
from matplotlib.text import Text
from scipy.special import logit
from typer.testing import CliRunner

from keras_scgm import DilatedGMNet, InputError, Segmenter
from keras_scgm.calibration import calibrate, figure, write_calibration
from keras_scgm.calibration.threshold_counts import THRESHOLDS, ThresholdCounts, mean_of_known
from keras_scgm.datasets import AnnotatedVolume, Split
from keras_scgm.figures import write_figure
from keras_scgm.files import sha256_of
from keras_scgm.pretrained import WeightsCard
from keras_scgm_cli.main import app

AFFINE = np.diag([-0.25, 0.25, 4.0, 1.0])


@pytest.fixture
def volumes(tmp_path):
    """Noise in a dark field, of which two raters marked the brightest pixels."""
    made = []
    for number in range(2):
        rng = np.random.default_rng(number)
        middle = np.hypot(*(np.indices((200, 200)) - 99.5)) < 40
        image = np.where(middle[..., np.newaxis], rng.normal(size=(200, 200, 3)), -4).astype(np.float32)
        masks = [image > 1.0, image > 1.4]
        paths = [tmp_path / f"{number}.nii.gz", *(tmp_path / f"{number}_{rater}.nii.gz" for rater in (1, 2))]
        for path, data in zip(paths, (image, *masks), strict=True):
            nib.save(nib.Nifti1Image(data.astype(np.float32), AFFINE), path)
        made.append(AnnotatedVolume(paths[0], tuple(paths[1:]), subject_id=str(number)))
    return made


def loaded(volume):
    image, *masks = (np.asarray(nib.load(path).dataobj) for path in (volume.image, *volume.masks))
    return image, [mask > 0 for mask in masks]


def test_curves_equal_a_direct_count(ramp, volumes):
    result = calibrate(ramp, volumes)
    segmenter = Segmenter(ramp)
    probabilities = [np.asarray(segmenter.segment(volume.image).probabilities.dataobj) for volume in volumes]
    for index in (60, 100, 148, 155):
        rows, biases = [], []
        for volume, values in zip(volumes, probabilities, strict=True):
            found = values > result.thresholds[index]
            masks = loaded(volume)[1]
            for mask in masks:
                hits = (found & mask).sum()
                rows.append((2 * hits / (found.sum() + mask.sum()), hits / found.sum(), hits / mask.sum()))
            reference = np.mean([mask.sum(axis=(0, 1)) for mask in masks], axis=0)
            biases.extend((found.sum(axis=(0, 1)) - reference) * 0.0625)
        assert [result.dsc[index], result.precision[index], result.recall[index]] == pytest.approx(
            np.mean(rows, axis=0)
        )
        assert result.area_bias_mm2[index] == pytest.approx(np.mean(biases))
    assert result.dsc[result.chosen] == pytest.approx(np.nanmax(result.dsc))
    assert result.thresholds[result.used] == pytest.approx(0.5)


def test_objectives(ramp, volumes):
    one_rater = [replace(volume, masks=volume.masks[:1]) for volume in volumes]
    for objective in ("dsc", "balance", "area"):
        result = calibrate(ramp, one_rater, objective)
        # The rater cut the image at 1.
        cuts = [2 * (1 - image.mean()) / image.std() for image, _ in map(loaded, volumes)]
        assert logit(result.threshold) == pytest.approx(np.mean(cuts), abs=0.15)
        assert result.dsc[result.chosen] > 0.9
    both = {name: calibrate(ramp, volumes, name) for name in ("dsc", "balance", "area")}
    assert abs(both["area"].area_bias_mm2[both["area"].chosen]) == np.abs(both["area"].area_bias_mm2).min()
    gaps = np.abs(both["balance"].precision - both["balance"].recall)
    assert gaps[both["balance"].chosen] == np.nanmin(gaps)
    assert both["area"].areas_mm2.shape == (6, 2)
    difference = both["area"].areas_mm2[:, 0] - both["area"].areas_mm2[:, 1]
    assert difference.mean() == pytest.approx(both["area"].area_bias_mm2[both["area"].chosen])


def test_reliability_is_the_share_that_raters_marked(ramp, volumes):
    result = calibrate(ramp, volumes)
    segmenter = Segmenter(ramp)
    values, shares = [], []
    for volume in volumes:
        values.append(np.asarray(segmenter.segment(volume.image).probabilities.dataobj).ravel())
        shares.append(np.mean(loaded(volume)[1], axis=0).ravel())
    values, shares = np.concatenate(values), np.concatenate(shares)
    for k in range(10):
        inside = (values >= k / 10) & (values < (k + 1) / 10)
        if not inside.any():
            assert np.isnan(result.confidence[k])
            continue
        assert result.confidence[k] == pytest.approx(values[inside].mean(), rel=1e-4)
        assert result.frequency[k] == pytest.approx(shares[inside].mean(), abs=1e-4)


def test_a_volume_in_which_nothing_is_found_has_no_precision():
    """Probabilities of 0.2 in one volume and of 0.8 in the other, whose rater marked two pixels of five."""
    truth = np.zeros((1, 1, 1, 5), bool)
    truth[..., :2] = True
    one, other = (ThresholdCounts(np.full((1, 1, 5), value), truth, 1.0).rates for value in (0.2, 0.8))
    _, precision, recall = mean_of_known(np.stack([one, other]))
    for threshold, both, found in ((0.1, 0.4, 1.0), (0.5, 0.4, 0.5), (0.9, np.nan, 0.0)):
        index = np.abs(THRESHOLDS - threshold).argmin()
        np.testing.assert_allclose([precision[index], recall[index]], [both, found])


def test_only_labelled_slices_count_whatever_the_orientation(tmp_path, ramp, volumes):
    volume = volumes[0]
    image, masks = loaded(volume)
    masks[0][..., 0] = image[..., 0] < 0
    flip = nib.orientations.ornt_transform(
        nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(("A", "L", "I"))
    )
    turned = replace(volume, image=tmp_path / "turned.nii", masks=(tmp_path / "turned_1.nii",))
    for data, path in ((image, turned.image), (masks[0].astype(np.float32), turned.masks[0])):
        nib.save(nib.Nifti1Image(data, AFFINE).as_reoriented(flip), path)
    # Slice 0 comes last in the turned file.
    result = calibrate(ramp, [replace(turned, labelled_slices=(0, 1))])
    expected = calibrate(ramp, [replace(volume, masks=volume.masks[:1], labelled_slices=(1, 2))])
    np.testing.assert_allclose(result.dsc, expected.dsc, atol=1e-6)
    assert calibrate(ramp, [turned]).dsc.max() < 0.9


def test_bad_input_is_one_line(tmp_path, ramp, volumes):
    with pytest.raises(InputError, match="objective must be one of dsc, balance, area, received 'best'"):
        calibrate(ramp, volumes, "best")
    with pytest.raises(InputError, match="no annotated volume"):
        calibrate(ramp, [replace(volumes[0], masks=())])
    nib.save(nib.Nifti1Image(np.zeros((200, 200, 3), np.uint8), AFFINE), tmp_path / "empty.nii")
    with pytest.raises(InputError, match="no gray matter in it"):
        calibrate(ramp, [replace(volumes[0], masks=(tmp_path / "empty.nii",))])


@pytest.fixture(scope="module")
def ramp_with_cord():
    """The same for gray matter, and with a bias of 2 for the cord."""
    slices = keras.Input((None, None, 1), name="slices")
    probabilities = keras.layers.Conv2D(2, 1, activation="sigmoid", name="predictions")(slices)
    model = keras.Model(slices, probabilities, name="ramp_with_cord")
    model.set_weights([np.full((1, 1, 1, 2), 2.0), np.array([0.0, 2.0])])
    return model


@pytest.fixture
def labelled_cords(tmp_path, volumes):
    """Masks in the challenge's labels: gray matter above 1.4, and the rest of the cord above 0.5."""
    made = []
    for volume in volumes:
        image, (_, gray) = loaded(volume)
        path = tmp_path / f"{volume.subject_id}_labels.nii.gz"
        nib.save(nib.Nifti1Image((image > 0.5).astype(np.uint8) * 2 - gray, AFFINE), path)
        made.append(replace(volume, masks=(path,), label_value=1))
    return made


def test_the_threshold_of_the_cord(ramp_with_cord, labelled_cords):
    result = calibrate(ramp_with_cord, labelled_cords, tissue="cord")
    cuts = [2 * (0.5 - image.mean()) / image.std() + 2 for image, _ in map(loaded, labelled_cords)]
    assert logit(result.threshold) == pytest.approx(np.mean(cuts), abs=0.15)
    assert result.dsc[result.chosen] > 0.9
    assert result.thresholds[result.used] == pytest.approx(0.5)
    gray = calibrate(ramp_with_cord, labelled_cords)
    cuts = [2 * (1.4 - image.mean()) / image.std() for image, _ in map(loaded, labelled_cords)]
    assert logit(gray.threshold) == pytest.approx(np.mean(cuts), abs=0.15)


def test_gray_matter_is_where_the_cord_is_however_low_its_threshold(ramp_with_cord, labelled_cords):
    narrow = keras.models.clone_model(ramp_with_cord)
    narrow.set_weights([np.full((1, 1, 1, 2), 2.0), np.array([0.0, -2.0])])
    found = Segmenter(narrow).segment(labelled_cords[0].image)
    lowest = calibrate(narrow, labelled_cords[:1])
    in_cord = (found.cord_voxels > 0) & (found.probability_voxels > lowest.thresholds[0])
    assert in_cord.mean() < 0.5
    marked = np.asarray(nib.load(labelled_cords[0].masks[0]).dataobj) == 1
    assert lowest.precision[0] == pytest.approx((marked & in_cord).sum() / in_cord.sum())


def test_masks_that_are_not_of_the_cord(ramp, ramp_with_cord, volumes, labelled_cords, tmp_path):
    with pytest.raises(InputError, match="these weights do not segment the cord; choose others"):
        calibrate(ramp, labelled_cords, tissue="cord")
    gray_only = [replace(volumes[0], masks=volumes[0].masks[:1], label_value=1)]
    with pytest.raises(InputError, match=r"0_1.nii.gz: gray matter alone, without white matter"):
        calibrate(ramp_with_cord, gray_only, tissue="cord")
    named = shutil.copy(volumes[0].masks[0], tmp_path / "0_gmseg.nii.gz")
    with pytest.raises(InputError, match=r"0_gmseg.nii.gz: named as a mask of the gray matter; give masks"):
        calibrate(ramp_with_cord, [replace(volumes[0], masks=(named,))], tissue="cord")
    with pytest.raises(InputError, match="tissue must be one of gm, cord, received 'wm'"):
        calibrate(ramp_with_cord, volumes, tissue="wm")


@pytest.fixture
def weights_of_both(tmp_path):
    """Weights of gray matter and cord whose card has the threshold 0.3."""
    keras.utils.set_random_seed(0)
    weights = tmp_path / "two.weights.h5"
    DilatedGMNet(filters=2, classes=2).save_weights(weights)
    card = WeightsCard(
        name="two",
        architecture="DilatedGMNet",
        model_kwargs={"filters": 2, "classes": 2},
        file=weights.name,
        sha256=sha256_of(weights),
        threshold=0.3,
        tissues=("gray_matter", "cord"),
    )
    (tmp_path / "two.json").write_text(card.to_json())
    return weights


def test_both_thresholds_go_into_the_card(tmp_path, labelled_cords, weights_of_both):
    Split(train=(), validation=tuple(labelled_cords[:1])).write(tmp_path / "split.json")
    command = [
        "calibrate",
        str(tmp_path / "out"),
        "--split",
        str(tmp_path / "split.json"),
        "-w",
        str(weights_of_both),
    ]
    assert CliRunner().invoke(app, [*command, "--tissue", "cord"]).exit_code == 0
    cord = json.loads((tmp_path / "two.json").read_text())
    assert cord["threshold"] == 0.3
    assert CliRunner().invoke(app, [*command, "--force"]).exit_code == 0
    both = json.loads((tmp_path / "two.json").read_text())
    assert both["cord_threshold"] == cord["cord_threshold"] != 0.5
    assert Segmenter(weights_of_both).networks.thresholds == (both["threshold"], both["cord_threshold"])
    assert [score["pipeline"] for score in both["scores"]] == [
        "calibrated: threshold of the cord chosen on them for dsc",
        "calibrated: threshold chosen on them for dsc",
    ]


@pytest.fixture
def own_weights(tmp_path):
    """A tiny network with a card, and the same file without."""
    folder = tmp_path / "own"
    folder.mkdir()
    keras.utils.set_random_seed(0)
    DilatedGMNet(filters=2).save_weights(folder / "mine.weights.h5")
    shutil.copy(folder / "mine.weights.h5", folder / "bare.weights.h5")
    card = WeightsCard(
        name="mine",
        architecture="DilatedGMNet",
        model_kwargs={"filters": 2},
        file="mine.weights.h5",
        sha256=sha256_of(folder / "mine.weights.h5"),
        threshold=0.3,
    )
    (folder / "mine.json").write_text(card.to_json())
    return folder


def test_the_choice_goes_into_the_card(tmp_path, own_weights, volumes, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        figure, "write_figure", lambda *args, **kw: (drawn.append(args[1]), write_figure(*args, **kw))
    )
    weights, out = own_weights / "mine.weights.h5", tmp_path / "out"
    Split(train=(), validation=tuple(volumes)).write(tmp_path / "split.json")
    command = ["calibrate", str(out), "--split", str(tmp_path / "split.json"), "--weights", str(weights)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    card = json.loads((own_weights / "mine.json").read_text())
    assert card["name"] == "mine"
    assert f"chosen: threshold {card['threshold']:.5g}," in result.output
    assert Segmenter(weights).threshold == card["threshold"] != 0.3
    assert sorted(path.name for path in out.iterdir()) == ["calibration.csv", "calibration.png"]
    assert (out / "calibration.png").read_bytes().startswith(b"\x89PNG")
    # Nothing in a figure is markup of mathematics.
    assert not [text for text in drawn[0].findobj(Text) if "$" in text.get_text()]
    with open(out / "calibration.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    best = max(float(row["dsc"]) for row in rows)
    assert f"DSC {best:.4f}" in result.output.splitlines()[1]
    assert isinstance(CliRunner().invoke(app, command).exception, InputError)
    assert CliRunner().invoke(app, [*command, "--force"]).exit_code == 0
    assert len(json.loads((own_weights / "mine.json").read_text())["scores"]) == 1


def test_the_figure_tells_scores_apart_and_says_if_the_choice_is_at_the_end(ramp, volumes, monkeypatch):
    drawn = []
    monkeypatch.setattr(figure, "write_figure", lambda path, made, **kw: drawn.append(made))
    found = calibrate(ramp, volumes[:1])
    for chosen in (found.chosen, 0, len(found.thresholds) - 1):
        figure.draw(replace(found, chosen=chosen), "unused")
    curves = [made.axes[0] for made in drawn]
    labels = [[line.get_label() for line in axes.lines] for axes in curves]
    assert [label[:3] for label in labels] == [["DSC", "precision", "recall"]] * 3
    assert ["end of the range" in label[3] for label in labels] == [False, True, True]
    assert len({line.get_linestyle() for line in curves[0].lines[:3]}) == 3
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in drawn[0].axes)


def test_weights_without_a_card_are_copied_with_one(tmp_path, own_weights, volumes):
    bare = own_weights / "bare.weights.h5"
    result = calibrate(bare, volumes[:1])
    copy = write_calibration(result, bare, tmp_path / "out")
    assert copy == tmp_path / "out" / "bare.weights.h5"
    assert Segmenter(copy).threshold == result.threshold
    assert not (own_weights / "bare.json").exists()
    with pytest.raises(InputError, match="choose another folder"):
        write_calibration(result, bare, own_weights)


def test_known_weights_stay_as_they_are(tmp_path, ramp, volumes, reference, published_weights):
    calibration = calibrate(ramp, volumes[:1])
    known = replace(calibration, card=Segmenter("challenge").networks.cards[0])
    copy = write_calibration(known, "challenge", tmp_path / "out")
    assert Segmenter(copy).threshold == calibration.threshold
    assert Segmenter(copy).networks.cards[0].name == "challenge-calibrated"
    assert Segmenter("challenge").threshold == 0.5


def test_the_former_threshold_is_that_of_the_tissue(tmp_path, weights_of_both):
    image = np.random.default_rng(0).normal(size=(200, 200, 2)).astype(np.float32)
    for name, data in (("image", image), ("mask", (image > 1) + np.uint8(image > 0.5))):
        nib.save(
            nib.Nifti1Image(data.astype(np.float32), np.diag([-0.25, 0.25, 4, 1])), tmp_path / f"{name}.nii"
        )
    volumes = [
        AnnotatedVolume(tmp_path / "image.nii", (tmp_path / "mask.nii",), subject_id="1", label_value=2)
    ]
    for tissue, threshold in (("gm", 0.3), ("cord", 0.5)):
        result = calibrate(weights_of_both, volumes, tissue=tissue)
        assert result.thresholds[result.used] == pytest.approx(threshold, abs=0.02)

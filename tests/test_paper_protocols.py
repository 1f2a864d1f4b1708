"""The paper's two protocols: every setting, and the ex vivo one from its files to the card."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from keras_scgm import Segmenter
from keras_scgm.datasets import Split, find_dataset, native_spacing_mm
from keras_scgm.datasets.phantom import write_exvivo_dataset
from keras_scgm.errors import InputError
from keras_scgm.slices import SliceConfig
from keras_scgm.training import (
    PRESETS,
    DataConfig,
    TrainingConfig,
    annotated_source,
    sources,
    synthetic_source,
)

SETTINGS = Path(__file__).parents[1] / "benchmarks" / "paper_settings.py"


@pytest.fixture(scope="module")
def exvivo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exvivo")
    write_exvivo_dataset(folder, n_slices=20, matrix_size=160)
    return folder


def test_every_setting_is_the_papers(capsys):
    script = runpy.run_path(str(SETTINGS))
    script["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + sum(map(len, script["PAPER"].values()))
    assert all(line.endswith("| same |") for line in lines[2:])
    wrong = replace(PRESETS["exvivo"], spacing_mm=0.25, model_kwargs={"dropout": 0.3})
    differing = [
        row[2] for row in script["rows"]({**PRESETS, "exvivo": replace(wrong, batch_size=8)}) if not row[-1]
    ]
    assert differing == ["batch size", "dropout", "resampled to, mm"]


def test_the_ex_vivo_cord_is_like_the_papers(exvivo):
    (volume,) = find_dataset(exvivo)
    image, mask = nib.load(volume.image), nib.load(volume.masks[0])
    assert image.header.get_zooms() == pytest.approx((0.1, 0.1, 468 / 20))
    gray_matter_mm2 = np.asarray(mask.dataobj).sum(axis=(0, 1)) * 0.01
    assert (gray_matter_mm2 > 3).all()
    # Cervical and lumbar enlargement, and the thoracic cord between them.
    assert gray_matter_mm2[10] < gray_matter_mm2[[3, 16]].min()
    with pytest.raises(InputError, match=r"_T2star.nii.gz: exists; replace it with --force"):
        write_exvivo_dataset(exvivo, n_slices=20)


def test_ex_vivo_slices_are_split_and_not_resampled(exvivo, tmp_path):
    config = replace(PRESETS["exvivo"], slice_counts=(6, 3, 2), window_px=128)
    batches, validation = annotated_source(DataConfig(exvivo, tmp_path / "split.json"), config)
    assert (batches.spacing_mm, batches.window_px, len(batches.slices)) == (0.1, 128, 6)
    split = Split.read(tmp_path / "split.json")
    parts = [split.train[0].labelled_slices, validation[0].labelled_slices, split.test[0].labelled_slices]
    assert [len(part) for part in parts] == [6, 3, 2]
    assert len(set(sum(parts, ()))) == 11
    # A slice of the batch is the stored one but for the z-score.
    stored = np.asarray(nib.load(validation[0].image).dataobj)[16:144, 16:144, parts[0][0]]
    assert np.corrcoef(stored.ravel(), batches.slices.images[0].ravel())[0, 1] > 0.9999
    again, _ = annotated_source(
        DataConfig(exvivo, tmp_path / "split.json"), replace(config, contour_smoothing_mm=0.4)
    )
    soft, sharp = again.slices.masks, batches.slices.masks
    assert set(np.unique(sharp)) == {0, 1}
    assert np.count_nonzero((soft > 0) & (soft < 1)) > 1000
    np.testing.assert_array_equal(soft > 0.5, sharp == 1)


def test_pixels_of_two_sizes_have_no_spacing_of_their_own(exvivo, tmp_path):
    (one,) = find_dataset(exvivo)
    image = nib.load(one.image)
    coarse = nib.Nifti1Image(np.asarray(image.dataobj)[::2, ::2], image.affine @ np.diag([2, 2, 1, 1]))
    nib.save(coarse, tmp_path / "coarse.nii")
    other = replace(one, image=tmp_path / "coarse.nii", masks=(tmp_path / "coarse.nii",), subject_id="other")
    assert native_spacing_mm([one]) == 0.1
    with pytest.raises(
        InputError, match=r"pixels of 0.1 x 0.1 mm \(sub-.*\), 0.2 x 0.2 mm \(coarse.nii\): no spac"
    ):
        native_spacing_mm([one, other])


def test_synthetic_slices_have_the_spacing_of_the_settings(tmp_path, monkeypatch):
    for name in ("write_challenge_dataset", "find_challenge"):
        monkeypatch.setattr(sources, name, lambda *_, **__: ())
    fine, coarse = (TrainingConfig(spacing_mm=mm, window_px=round(25 / mm)) for mm in (0.25, 0.5))
    areas_mm2 = []
    for config in (fine, coarse):
        batches, _ = synthetic_source(tmp_path, config)
        assert (batches.spacing_mm, batches.window_px) == (config.spacing_mm, config.window_px)
        # Slice i of a seed is the same person at every spacing.
        _, masks = batches.batch(replace(config, batch_size=4), 0)
        areas_mm2.append(masks.sum(axis=(1, 2, 3)) * config.spacing_mm**2)
    np.testing.assert_allclose(areas_mm2[0], areas_mm2[1], rtol=0.05)
    with pytest.raises(InputError, match="synthetic slices have no spacing of their own and no split"):
        synthetic_source(tmp_path, PRESETS["exvivo"])


@pytest.mark.usefixtures("untraced")
def test_the_ex_vivo_protocol_is_one_command(run, tmp_path):
    code, out, err = run("phantom", tmp_path / "data", "--exvivo", 16)
    assert (code, err) == (0, "")
    assert out.endswith("sub-exvivo_T2star.nii.gz: 16 slices, seed 0\n")
    tiny = replace(PRESETS["exvivo"], model_kwargs={"filters": 2}, epochs=1, steps_per_epoch=1, batch_size=1)
    (tmp_path / "tiny.json").write_text(replace(tiny, slice_counts=(2, 1, 1)).to_json())
    command = ("train", tmp_path / "run", "--data", tmp_path / "data", "--spec", tmp_path / "tiny.json")
    code, _, err = run(*command, "--slices", 8, 2, 2, "--window-px", 64)
    assert code == 0, err
    card = json.loads((tmp_path / "run" / "best.json").read_text())
    assert card["slices"] == {"spacing_mm": 0.1, "window_px": 64}
    assert card["training"]["slice_counts"] == [8, 2, 2]
    assert card["data"].startswith("8 slices of 1 annotated volume")
    assert Segmenter(tmp_path / "run" / "best.weights.h5").networks.config == SliceConfig(0.1, 64)

"""What a user runs, from training to the served graph, on any processor.

Where there is no AVX-512, and on Macs, TensorFlow computes without oneDNN. The tox environment `onednn_off` runs this
file so; other tests do the same with oneDNN.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from unchecked_export import export_unchecked

from keras_scgm.datasets.phantom import PhantomConfig, write_challenge_dataset
from keras_scgm.dice import dice
from keras_scgm.training import TrainingConfig


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("challenge")
    site = PhantomConfig(spacing_mm=0.4, matrix_size=110, n_slices=2, contrast_to_noise=(8, 8))
    write_challenge_dataset(folder, subjects_per_site=3, raters=1, sites={1: site, 2: site})
    return folder


def _voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj) > 0


@pytest.mark.parametrize("mixed", [False, True])
def test_training_and_segmentation_with_its_weights(run, data, tmp_path, mixed):
    small = TrainingConfig(model_kwargs={"filters": 4}, window_px=64, batch_size=2)
    (tmp_path / "small.json").write_text(small.to_json())
    chosen = ("--spec", tmp_path / "small.json", "--mixed-precision") if mixed else ("--preset", "quick")
    code, out, err = run("train", tmp_path / "run", "--data", data, *chosen, "--epochs", 1, "--steps", 1)
    assert code == 0, err
    assert "best.weights.h5: validation DSC 0." in out
    image = data / "site1-sc01-image.nii.gz"
    code, _, err = run("segment", image, "--weights", tmp_path / "run/best.weights.h5", "--output", tmp_path)
    assert code == 0, err
    assert (tmp_path / "site1-sc01-image_gmseg.nii.gz").exists()


@pytest.mark.parametrize("runtime", ["tensorflow", "keras"])
def test_segmentation(run, data, tmp_path, runtime):
    image, truth = data / "site1-sc01-image.nii.gz", data / "site1-sc01-mask-r1.nii.gz"
    precisions = ("float32", "bfloat16") if runtime == "tensorflow" else ("float32",)
    masks = []
    for precision in precisions:
        folder = tmp_path / precision
        code, _, err = run(
            "segment", image, "--runtime", runtime, "--precision", precision, "--output", folder
        )
        assert code == 0, err
        masks.append(_voxels(folder / "site1-sc01-image_gmseg.nii.gz"))
    assert dice(masks[0], np.asarray(nib.load(truth).dataobj) == 1) > 0.7
    assert dice(masks[0], masks[-1]) > 0.99


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_served_graph_from_c(run, data, tmp_path, capi_check, precision):
    image = data / "site1-sc01-image.nii.gz"
    # Precision concerns the network; a graph that does not look for the cord besides is half as large.
    window = "auto" if precision == "float32" else "center"
    code, _, err = run("segment", image, "--window", window, "--output", tmp_path)
    assert code == 0, err
    models = export_unchecked("synthetic", tmp_path / "models", precision=precision, window=window)
    # Where a graph is exported says nothing about where it is served.
    for onednn in ("0", "1"):
        answer = tmp_path / onednn
        command = [capi_check, models.nifti, f"nifti_bytes=bytes:{image}", "--runs", 1, "--save", answer]
        process = subprocess.run(
            [sys.executable, *map(str, command)],
            env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": onednn},
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        served = nib.Nifti1Image.from_bytes((answer / "mask_bytes_0.bin").read_bytes())
        expected = _voxels(tmp_path / "site1-sc01-image_gmseg.nii.gz")
        least = 0.999 if precision == "float32" else 0.99
        assert dice(np.asarray(served.dataobj) > 0, expected) >= least

"""A network and scans on which an adaptation takes a second."""

from collections.abc import Callable
from pathlib import Path

import keras
import nibabel as nib
import pytest
from tiny_adaptation import LENIENT

from keras_scgm.adaptation import adapting
from keras_scgm.adaptation.adapting import synthetic_subjects
from keras_scgm.datasets import AnnotatedVolume
from keras_scgm.pretrained import CORD, GRAY_MATTER, WeightsCard
from keras_scgm.slices import SliceConfig
from keras_scgm.training.checkpoint import save_weights


@pytest.fixture(scope="session")
def start_weights(dilated_cord_network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with a card, which find a bright disc in a less bright one."""
    path = tmp_path_factory.mktemp("start") / "start.weights.h5"
    card = WeightsCard(
        "start",
        "DilatedGMNet",
        {"filters": 2, "dilation_rates": [6], "classes": 2},
        path.name,
        "0" * 64,
        slices=SliceConfig(0.5, 72),
        tissues=(GRAY_MATTER, CORD),
        threshold=0.4,
        cord_threshold=0.3,
    )
    save_weights(path, dilated_cord_network, card)
    return path


@pytest.fixture
def scan_folder(cord_image: Callable[..., nib.Nifti1Image], tmp_path: Path) -> Path:
    """Three persons, of whom one was scanned twice."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for name, radius_mm in (("a_scan", 1.4), ("a_rescan", 1.5), ("b", 1.3), ("c", 1.6)):
        image = cord_image(radius_mm=radius_mm, shape=(80, 76, 3))
        nib.save(image, folder / f"{name}.nii.gz")
    return folder


@pytest.fixture(scope="session")
def synthetic_subject(tmp_path_factory: pytest.TempPathFactory) -> tuple[AnnotatedVolume, ...]:
    return synthetic_subjects(tmp_path_factory.mktemp("synthetic"), LENIENT)


@pytest.fixture
def drawn_once(synthetic_subject: tuple[AnnotatedVolume, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard takes a subject that is there, where it would draw it."""
    monkeypatch.setattr(adapting, "synthetic_subjects", lambda folder, guard: synthetic_subject)

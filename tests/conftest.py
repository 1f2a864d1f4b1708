"""Fixtures shared by all tests."""

import errno
import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import keras
import nibabel as nib
import numpy as np
import pytest
from annotated_data import SITES
from missing import missing
from tiny_training import steps_untraced

from keras_scgm import DilatedGMNet
from keras_scgm.datasets import AnnotatedSlices
from keras_scgm.datasets.phantom import PhantomConfig, draw_slices, draw_subject, write_challenge_dataset
from keras_scgm.pretrained import WeightsCard, catalog
from keras_scgm_cli.interruption import SIGNALS
from keras_scgm_cli.main import main


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Files are shared among processes whole, and the tests of exports all go to one, which makes the exports once."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class WithExportsTogether(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/export" if nodeid.startswith("tests/export/") else super()._split_scope(nodeid)

    return WithExportsTogether(config, log)


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of published weights, real images and expected results; KERAS_SCGM_REFERENCE=none does without."""
    default = Path(__file__).parents[2] / "shared" / "reference"
    place = os.environ.get("KERAS_SCGM_REFERENCE") or default
    if place == "none":
        pytest.skip("no reference data")
    return Path(place) if Path(place).is_dir() else missing(f"the reference folder {place}")


@pytest.fixture(scope="session")
def capi_check(reference: Path) -> Path:
    """The program that runs a SavedModel from C, as a server does; required under CI."""
    path = reference.parent / "tools" / "capi_check.py"
    return path if path.exists() else missing(str(path))


@pytest.fixture
def published_weights(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the published weights known by name without a download."""
    monkeypatch.setenv("KERAS_SCGM_HOME", str(reference / "weights"))


@pytest.fixture
def weights_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for downloaded weights that does not exist yet."""
    folder = tmp_path / "home" / "scgm"
    monkeypatch.setenv("KERAS_SCGM_HOME", str(folder))
    return folder


@pytest.fixture
def tiny_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights_home: Path) -> WeightsCard:
    """The card of the only known weights, "tiny", which are downloaded from a local file that holds b"the weights"."""
    served = tmp_path / "server" / "tiny.weights.h5"
    served.parent.mkdir()
    served.write_bytes(b"the weights")
    sha256 = hashlib.sha256(b"the weights").hexdigest()
    card = WeightsCard("tiny", "UNet", {"filters": 2}, served.name, sha256, url=served.as_uri())
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "tiny.json").write_text(card.to_json())
    monkeypatch.setattr(catalog, "weights_folder", lambda: folder)
    return card


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Calls the command in this process: (exit code, standard output, standard error)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["keras-scgm", *map(str, arguments)])
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        else:
            code = 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def full_disk() -> Callable[[], AbstractContextManager[None]]:
    """A context in which no file grows beyond 1000 bytes."""
    # Not on Windows.
    import resource

    @contextmanager
    def limited() -> Iterator[None]:
        old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old_limit[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
            signal.signal(signal.SIGXFSZ, old_handler)

    return limited


@pytest.fixture
def no_space() -> Callable[..., None]:
    """In place of a function that writes: the disk is full."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return fail


@pytest.fixture
def untraced() -> Iterator[None]:
    with steps_untraced():
        yield


@pytest.fixture(scope="session")
def phantom() -> nib.Nifti1Image:
    """A drawn cord of 4 slices, 0.5 x 0.5 x 5 mm."""
    return draw_subject(PhantomConfig(spacing_mm=0.5, matrix_size=120, n_slices=4), seed=3).image


@pytest.fixture(scope="session")
def bright_network() -> keras.Model:
    """A stand-in network: the probability rises steeply with the normalised intensity."""
    slices = keras.Input((None, None, 1), name="slices")
    dropped = keras.layers.Dropout(0.2, name="dropout")(slices)
    probabilities = keras.layers.Conv2D(1, 1, activation="sigmoid", name="predictions")(dropped)
    model = keras.Model(slices, probabilities, name="bright")
    model.set_weights([np.full((1, 1, 1, 1), 20.0), np.full(1, -100.0)])
    return model


@pytest.fixture(scope="session")
def ramp() -> keras.Model:
    """A network whose probability is the logistic function of twice the normalised intensity."""
    slices = keras.Input((None, None, 1), name="slices")
    probabilities = keras.layers.Conv2D(1, 1, activation="sigmoid", name="predictions")(slices)
    model = keras.Model(slices, probabilities, name="ramp")
    model.set_weights([np.full((1, 1, 1, 1), 2.0), np.zeros(1)])
    return model


@pytest.fixture
def weights(tmp_path_factory: pytest.TempPathFactory, bright_network: keras.Model) -> Path:
    """The file of `bright_network`."""
    path = tmp_path_factory.mktemp("weights") / "bright.keras"
    bright_network.save(path)
    return path


@pytest.fixture(scope="session")
def cord_network() -> keras.Model:
    """A stand-in network for `nested_discs`: the cord is brighter than its surroundings, gray matter still brighter."""
    slices = keras.Input((None, None, 1), name="slices")
    probabilities = keras.layers.Conv2D(2, 1, activation="sigmoid", name="predictions")(slices)
    model = keras.Model(slices, probabilities, name="nested")
    model.set_weights([np.full((1, 1, 1, 2), 20.0), np.array([-110.0, -40.0])])
    return model


@pytest.fixture
def nested_discs() -> Callable[..., tuple[nib.Nifti1Image, np.ndarray, np.ndarray]]:
    """Builds volumes with a disc in a disc, which `cord_network` takes for gray matter in the cord, and their masks."""

    def build(
        spacing_mm: tuple[float, float, float] = (0.5, 0.5, 4.0),
        gray_mm: float = 2.5,
        cord_mm: float = 6.0,
        center_mm: tuple[float, float] = (40.0, 35.0),
    ) -> tuple[nib.Nifti1Image, np.ndarray, np.ndarray]:
        shape = (round(80 / spacing_mm[0]), round(70 / spacing_mm[1]), 5)
        x_mm, y_mm = (np.arange(n) * mm for n, mm in zip(shape[:2], spacing_mm[:2], strict=True))
        distance = np.hypot(x_mm[:, None] - center_mm[0], y_mm - center_mm[1])
        gray, cord = (
            np.repeat((distance < radius)[..., None], shape[2], axis=2) for radius in (gray_mm, cord_mm)
        )
        data = 100.0 + 100 * cord + 100 * gray + np.random.default_rng(0).normal(0, 1, shape)
        affine = np.diag([-spacing_mm[0], spacing_mm[1], spacing_mm[2], 1.0])
        return nib.Nifti1Image(data.astype(np.float32), affine), gray, cord

    return build


@pytest.fixture
def blob_image() -> Callable[..., nib.Nifti1Image]:
    """Builds volumes with one bright disc per slice, which `bright_network` takes for gray matter."""

    def build(
        shape: tuple[int, int, int] = (160, 140, 5),
        spacing_mm: tuple[float, float, float] = (0.5, 0.5, 4.0),
        center_mm: tuple[float, float] | None = None,
        radius_mm: float = 2.5,
    ) -> nib.Nifti1Image:
        x_mm, y_mm = (np.arange(n) * mm for n, mm in zip(shape[:2], spacing_mm[:2], strict=True))
        if center_mm is None:
            center_mm = x_mm.mean(), y_mm.mean()
        distance = np.hypot(x_mm[:, None] - center_mm[0], y_mm - center_mm[1])
        noise = np.random.default_rng(0).normal(0, 1, shape)
        data = 100 + noise + 200 * (distance < radius_mm)[..., None]
        affine = np.diag([-spacing_mm[0], spacing_mm[1], spacing_mm[2], 1.0])
        return nib.Nifti1Image(data.astype(np.float32), affine)

    return build


@pytest.fixture(scope="session")
def dilated_cord_network() -> keras.Model:
    """A `DilatedGMNet` that takes what is bright for the cord, and what is brighter for gray matter."""
    model = DilatedGMNet(filters=2, dilation_rates=(6,), classes=2)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, bias = (np.zeros_like(array) for array in layer.get_weights())
            kernel[kernel.shape[0] // 2, kernel.shape[1] // 2, 0] = 1
            layer.set_weights([kernel, bias])
    kernel, _ = model.get_layer("predictions").get_weights()
    model.get_layer("predictions").set_weights([20 * kernel, np.array([-140.0, -30.0])])
    return model


@pytest.fixture
def cord_image(blob_image: Callable[..., nib.Nifti1Image]) -> Callable[..., nib.Nifti1Image]:
    """Builds volumes of `blob_image` with a less bright disc around the other, the cord of `dilated_cord_network`."""

    def build(radius_mm: float = 1.5, cord_radius_mm: float = 3.5, **options: Any) -> nib.Nifti1Image:
        inner, outer = (blob_image(radius_mm=radius, **options) for radius in (radius_mm, cord_radius_mm))
        data = np.asarray(inner.dataobj) + (np.asarray(outer.dataobj) - 100) / 2
        return nib.Nifti1Image(data.astype(np.float32), inner.affine)

    return build


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sites, each with three subjects of four raters and one without labels."""
    folder = tmp_path_factory.mktemp("challenge")
    write_challenge_dataset(folder, subjects_per_site=3, seed=1, unlabelled_per_site=1, sites=SITES)
    return folder


@pytest.fixture
def challenge(written: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(written, tmp_path / "challenge"))


@pytest.fixture(scope="session")
def drawn_slices() -> AnnotatedSlices:
    images, masks, _ = draw_slices(5, seed=1, size=48)
    images = (images - images.mean()) / images.std()
    numbers = np.arange(5)
    return AnnotatedSlices(
        images[..., None],
        masks[..., None],
        0 * numbers,
        0 * numbers,
        numbers,
        raters="all",
        seed=0,
        spacing_mm=0.25,
        contour_smoothing_mm=0.0,
        warnings=(),
    )

"""What the dearest requests cost that anybody has thought of, each at most a megabyte or refused.

Slices are paid for with bytes, so a tenth of a megabyte shows what a slice may cost.
"""

import gzip
import statistics
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from unchecked_export import export_unchecked

from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.export.check import synthetic_image
from keras_scgm.limits import BYTES_PER_SLICE, FREE_SLICES, MAX_REQUEST_FILES

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from served_process import ServedProcess

MAX_WINDOWS_PER_SLICE, MAX_WINDOWS_REFUSED = 5, 40
"""Bounds of the processor time, in whole windows of the network in the same run: of every slice that the bytes of a
request could pay for, and of a refused request."""
MAX_PEAK_BYTES = 2.2e9
SIGNATURE = "soft"
"""The dearer one: it does all that `serving_default` does, and writes the probabilities besides."""
MEGABYTE, TENTH = 1_000_000, 100_000

rng = np.random.default_rng(0)


def file_of(slices: np.ndarray, spacing_mm: tuple[float, float, float], slowest: str = "z") -> bytes:
    """An uncompressed file of (slice, right-left, posterior-anterior), stored with slices (z) or rows slowest."""
    x, y, z = spacing_mm
    if slowest == "z":
        voxels, columns = np.moveaxis(slices, 0, 2), [[-x, 0, 0], [0, y, 0], [0, 0, z]]
    else:
        voxels, columns = slices, [[0, 0, z], [-x, 0, 0], [0, y, 0]]
    affine = np.eye(4)
    affine[:3, :3] = np.transpose(columns)
    return nib.Nifti1Image(voxels, affine).to_bytes()


def zeros(mebibytes: int) -> bytes:
    """A gzip stream of so many zeros, in members of 1 MiB."""
    return gzip.compress(bytes(2**20), mtime=0) * mebibytes


def up_to(n_bytes: int, data: bytes) -> bytes:
    """A gzip stream made longer by what does not compress, behind the last voxel."""
    rest = n_bytes - 100 - len(data)
    return data + gzip.compress(rng.bytes(rest), 0, mtime=0)


def most_slices(n_bytes: int, n_files: int = 1) -> int:
    return FREE_SLICES // n_files + n_bytes // BYTES_PER_SLICE


def cords_side_by_side(n_rows: int) -> np.ndarray:
    """uint8 (row, column) of 1 mm, gray matter everywhere."""
    config = PhantomConfig(spacing_mm=1.0, matrix_size=50, n_slices=1, off_centre_mm=0)
    picture = np.asarray(draw_subject(config, seed=1).image.dataobj)[..., 0]
    picture = np.rint(255 * np.clip(picture / np.percentile(picture, 99.8), 0, 1)).astype(np.uint8)
    return np.tile(picture, (n_rows // 50, n_rows // 50))


def without_cord() -> bytes:
    """Texture without a cord: searched for one, then every window is computed whole."""
    texture = np.tile(rng.integers(0, 255, (15, 15), np.uint8), (10, 10))
    slices = np.broadcast_to(texture, (most_slices(TENTH), 150, 150))
    return up_to(TENTH, gzip.compress(file_of(slices, (1.5, 1.5, 1.0), slowest="y"), mtime=0))


def off_the_middle() -> list[bytes]:
    """Cords that are found by a search only, in slices so far apart that each is looked at for it."""
    size = TENTH // MAX_REQUEST_FILES - 100
    field = np.full((200, 200), 40, np.uint8)
    field[120:170, 120:170] = cords_side_by_side(50)
    slices = np.broadcast_to(field, (most_slices(size, MAX_REQUEST_FILES), 200, 200))
    packed = gzip.compress(file_of(slices, (1, 1, 20), slowest="y"), mtime=0)
    return [up_to(size, packed)] * MAX_REQUEST_FILES


def gray_matter_everywhere() -> bytes:
    """Gray matter that leaves the part around the cord: computed there and then whole."""
    slices = np.broadcast_to(cords_side_by_side(300), (most_slices(TENTH), 300, 300))
    packed = gzip.compress(file_of(slices, (1, 1, 20), slowest="y"), mtime=0)
    return up_to(TENTH, packed)


def most_voxels(shape: tuple[int, int, int], slowest: str, dtype: type = np.uint8) -> bytes:
    """As many voxels as a megabyte may unpack to: few of them vary, or it would not."""
    slices = np.zeros(shape, dtype)
    places = slices.reshape(-1)[::512]
    places[:] = np.arange(len(places)) % 200
    spacing_mm = 599 / max(shape)
    return up_to(
        MEGABYTE, gzip.compress(file_of(slices, (spacing_mm, spacing_mm, 5), slowest=slowest), 1, mtime=0)
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory, capi_check):
    """The default model in a process that has as much of TensorFlow as a server, and no Python package of it."""
    models = export_unchecked("synthetic", tmp_path_factory.mktemp("models"))
    with ServedProcess(models.nifti, threads=2, from_c=capi_check) as process:
        # The first call of a signature also optimizes its graph.
        process.ask([synthetic_image().to_bytes()], SIGNATURE)
        yield process


@pytest.fixture(scope="module")
def window_cpu_seconds(served):
    """Of one window, in a volume that is computed whole: median of three requests."""
    slices = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, np.newaxis], (FREE_SLICES, 100, 100))
    answers = [served.ask([file_of(slices, (0.5, 0.5, 1))], SIGNATURE) for _ in range(3)]
    assert not any(answer.error for answer in answers)
    return statistics.median(answer.cpu_seconds for answer in answers) / FREE_SLICES


DEAR = {
    "zeros": lambda: gzip.compress(file_of(np.zeros((8, 512, 512), np.uint8), (0.5, 0.5, 5))),
    "search without a cord": without_cord,
    "cords off the middle": off_the_middle,
    "gray matter everywhere": gray_matter_everywhere,
    "one slice": lambda: most_voxels((1, 3900, 3900), "z"),
    "axial axis first": lambda: most_voxels((2, 2750, 2750), "y"),
    "float64": lambda: most_voxels((1, 1370, 1370), "y", np.float64),
}
REFUSED = {
    "4096 x 4096 x 4": (
        lambda: gzip.compress(file_of(np.zeros((4, 4096, 4096), np.uint8), (0.14, 0.14, 5)), 1),
        "unpacks to more than 10 MiB",
    ),
    "voxels of 4.9 mm": (
        lambda: gzip.compress(file_of(rng.integers(0, 255, (1, 160, 160), np.uint8), (4.9, 4.9, 5))),
        "a field of view of 784 x 784 mm",
    ),
    "zeros after the voxels": (
        lambda: gzip.compress(synthetic_image().to_bytes()) + zeros(800),
        "unpacks to more than 15 MiB",
    ),
    "zeros after what does not compress": (
        lambda: gzip.compress(rng.bytes(750_000), 0) + zeros(230),
        "unpacks to more than 15 MiB",
    ),
    "one slice too many": (
        lambda: gzip.compress(file_of(np.zeros((FREE_SLICES + 1, 50, 50), np.uint8), (0.5, 0.5, 5))),
        "17 axial slices, and a file of this size may have 16",
    ),
}


@pytest.mark.parametrize("name", DEAR)
def test_the_dearest_requests(served, window_cpu_seconds, name):
    files = DEAR[name]()
    files = [files] if isinstance(files, bytes) else files
    n_bytes = sum(map(len, files))
    assert n_bytes <= MEGABYTE
    answer = served.ask(files, SIGNATURE)
    assert not answer.error
    assert answer.cpu_seconds <= MAX_WINDOWS_PER_SLICE * most_slices(n_bytes) * window_cpu_seconds
    assert answer.peak_bytes <= MAX_PEAK_BYTES


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_dearer_is_refused_at_once(served, window_cpu_seconds, name):
    build, message = REFUSED[name]
    data = build()
    assert len(data) <= MEGABYTE
    answer = served.ask([data], SIGNATURE)
    assert answer.error.startswith(f"nifti_bytes[0]: {message}")
    assert "\n" not in answer.error
    assert answer.cpu_seconds <= MAX_WINDOWS_REFUSED * window_cpu_seconds
    assert answer.peak_bytes <= MAX_PEAK_BYTES

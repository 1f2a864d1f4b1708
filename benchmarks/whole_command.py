"""Is the whole command faster than a pipeline like the Spinal Cord Toolbox's? Wall time of whole processes.

The peer takes the toolbox's steps from their published description, with nibabel, SciPy and ONNX Runtime in a
process of its own: in-plane resampling to 0.25 mm that keeps the centre of the first voxel, a 200 x 200 window in
the middle (mirrored where the image ends), z-score over the windowed volume, all slices through the network at
once, threshold 0.999, the mask back by linear resampling, cut at 0.5. It writes the mask and nothing else; our
command also looks for the cord (not with window center), judges the result, and writes areas, a picture and a
record.

Processes take turns and the fastest turn counts. Start-up is that of a process that stops before the first image,
with all it imports and the network loaded. "processor" is the time of all cores, which other programs disturb least.

    python benchmarks/whole_command.py [--image IMAGE] [--weights challenge] [--turns 5]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from unfolded_onnx import unfolded_onnx

from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.dice import dice
from keras_scgm.runtimes import has_openvino

PEER = """
import sys
import nibabel as nib
import numpy as np
import onnxruntime
from scipy.ndimage import affine_transform

network, image_path, mask_path = sys.argv[1:]
session = onnxruntime.InferenceSession(network)
if image_path == "none":
    sys.exit()
size, spacing_mm = 200, 0.25
image = nib.load(image_path)
orientation = nib.orientations.ornt_transform(
    nib.io_orientation(image.affine), nib.orientations.axcodes2ornt("LAS")
)
canonical = image.as_reoriented(orientation)
voxels = np.asarray(canonical.dataobj, dtype=np.float32)
step = spacing_mm / np.array(canonical.header.get_zooms()[:2])
shape = tuple(int(round(n / s)) for n, s in zip(voxels.shape[:2], step))
scale = np.append(step, 1)
resampled = affine_transform(voxels, scale, output_shape=(*shape, voxels.shape[2]), order=1, mode="nearest")
pads = [(max(0, size - n) // 2, max(0, size - n) - max(0, size - n) // 2) for n in shape]
padded = np.pad(resampled, [*pads, (0, 0)], mode="reflect")
starts = [(n - size) // 2 for n in padded.shape[:2]]
window = tuple(slice(start, start + size) for start in starts)
slices = padded[window].transpose(2, 0, 1)[..., np.newaxis]
slices = (slices - slices.mean()) / slices.std()
(probabilities,) = session.run(None, {"slices": slices.astype(np.float32)})
mask = np.zeros(padded.shape, np.float32)
mask[window] = (probabilities[..., 0] > 0.999).transpose(1, 2, 0)
mask = mask[tuple(slice(low, low + n) for (low, _), n in zip(pads, shape))]
native = affine_transform(mask, 1 / scale, output_shape=voxels.shape, order=1, mode="nearest") > 0.5
back = nib.orientations.ornt_transform(
    nib.orientations.axcodes2ornt("LAS"), nib.io_orientation(image.affine)
)
nib.Nifti1Image(native.astype(np.uint8), canonical.affine).as_reoriented(back).to_filename(mask_path)
"""

OURS = "from keras_scgm_cli.main import main; main()"
STARTED_UP = """
import sys
from keras_scgm.cohort import run_here
from keras_scgm.segmentation import Segmenter, SegmentationConfig
Segmenter([sys.argv[1]], SegmentationConfig(runtime=sys.argv[2], precision=sys.argv[3]))
"""
LEAN = "import keras_scgm_cli\n"


def timed(command: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def overlap(a: Path, b: Path) -> float:
    """DSC of two mask files."""
    return dice(*(np.asarray(nib.load(path).dataobj) > 0 for path in (a, b)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", type=Path)
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        image = arguments.image
        if image is None:
            image = folder / "drawn.nii.gz"
            nib.save(draw_subject(PhantomConfig(matrix_size=320, n_slices=11), seed=0).image, image)
        (folder / "network.onnx").write_bytes(unfolded_onnx(arguments.weights).SerializeToString())
        compare(folder, image, arguments.weights, arguments.turns)


def compare(folder: Path, image: Path, weights: str, turns: int) -> None:
    peer = [sys.executable, "-c", PEER, str(folder / "network.onnx")]
    peer_mask = folder / "peer.nii.gz"
    whole = {"SCT-like, onnxruntime": [*peer, str(image), str(peer_mask)]}
    start = {"SCT-like, onnxruntime": [*peer, "none", "none"]}
    masks = {"SCT-like, onnxruntime": peer_mask}
    for runtime, precision, window in (
        ("onnxruntime", "float32", "auto"),
        ("openvino", "float32", "auto"),
        ("openvino", "bfloat16", "auto"),
        ("openvino", "bfloat16", "center"),
    ):
        if runtime == "openvino" and not has_openvino():
            continue
        name = f"keras-scgm, {runtime} {precision}, window {window}"
        masks[name] = folder / f"{runtime}_{precision}_{window}.nii.gz"
        options = ["-w", weights, "--runtime", runtime, "--precision", precision]
        options += ["--window", window, "--binarize", "paper"]
        whole[name] = [sys.executable, "-c", OURS, "segment", str(image), "-o", str(masks[name]), *options]
        whole[name].append("--force")
        start[name] = [sys.executable, "-c", LEAN + STARTED_UP, weights, runtime, precision]
    seconds = {name: [timed(command)] for name, command in whole.items()}
    startup = {name: [timed(command)] for name, command in start.items()}
    for _ in range(turns - 1):
        for name in whole:
            seconds[name].append(timed(whole[name]))
            startup[name].append(timed(start[name]))
    anchor = np.min(seconds["SCT-like, onnxruntime"], axis=0)
    print(f"{os.cpu_count()} cores, {turns} turns")
    print(
        "| command | wall s | start-up | processor s | start-up | wall / peer's | processor / peer's | DSC |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in whole:
        (wall, processor), (wall_start, processor_start) = (
            np.min(x[name], axis=0) for x in (seconds, startup)
        )
        print(
            f"| {name} | {wall:.2f} | {wall_start / wall:.0%} | {processor:.2f} "
            f"| {processor_start / processor:.0%} | {wall / anchor[0]:.2f} | {processor / anchor[1]:.2f} "
            f"| {overlap(masks[name], peer_mask):.4f} |"
        )


if __name__ == "__main__":
    main()

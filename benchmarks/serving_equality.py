"""Does the served model give the masks of `keras-scgm segment`, however the image is stored, and in what time?

Exports the weights (or takes an export) and stores one volume in all 48 orientations, the ten voxel types that
are served, both byte orders, and raw or gzipped; counts the voxels in which the served masks and those of
`keras_scgm.segment` for the same file differ, of gray matter and, if the weights know it, of the cord and of the
white matter, which is the rest of it; and compares the processor time of both. By default every
orientation, and every combination of type, byte order and compression, appears at least once; --all runs the
whole product. Usage:

    python benchmarks/serving_equality.py VOLUME [--weights NAME] [--models FOLDER] [--all]
"""

import argparse
import gzip
import itertools
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import tensorflow as tf
from mutations import ORIENTATIONS, VOXEL_TYPES, turned

from keras_scgm.export.saved_model import export_saved_model
from keras_scgm.segmentation import Segmentation, Segmenter

STORAGES = list(itertools.product(VOXEL_TYPES, "<>", [False, True]))


def stored(image: nib.Nifti1Image, codes: str, voxel_type: str, byte_order: str) -> bytes:
    """The image's values, as integers up to 127, in another orientation, type and byte order."""
    image = turned(image, codes)
    values = np.asarray(image.dataobj, np.float64)
    values = np.rint((values - values.min()) / np.ptp(values) * 127)
    dtype = np.dtype(voxel_type).newbyteorder(byte_order)
    header = nib.Nifti1Header(endianness=byte_order)
    header.set_data_dtype(dtype)
    return nib.Nifti1Image(values.astype(dtype), image.affine, header).to_bytes()


def compared(
    answer: dict[str, tf.Tensor], expected: Segmentation, folder: Path
) -> dict[str, tuple[np.ndarray, np.ndarray, bool]]:
    """Tissue -> the served mask, that of `segment`, and whether the served file is the one that `segment` writes."""
    results = {}
    for tissue, output, own in (
        ("gray matter", "mask_bytes", expected.mask_voxels),
        ("cord", "cord_bytes", expected.cord_voxels),
    ):
        if own is not None:
            file = answer[output].numpy()[0]
            expected.volume.write_result(folder / "mask.nii", own)
            same_file = file == (folder / "mask.nii").read_bytes()
            results[tissue] = np.asarray(nib.Nifti1Image.from_bytes(file).dataobj), np.asarray(own), same_file
    if "cord" in results:
        masks, own_masks, same = zip(results["cord"], results["gray matter"], strict=True)
        results["white matter"] = masks[0] ^ masks[1], own_masks[0] & ~own_masks[1], all(same)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("volume", type=Path)
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--models", type=Path, help="folder of an export of the same weights")
    parser.add_argument("--all", action="store_true", help="all 1920 combinations")
    arguments = parser.parse_args()

    image = nib.load(arguments.volume)
    segmenter = Segmenter(arguments.weights)
    if arguments.all:
        cases = list(itertools.product(ORIENTATIONS, STORAGES))
    else:
        length = max(len(ORIENTATIONS), len(STORAGES))
        cases = [(ORIENTATIONS[k % len(ORIENTATIONS)], STORAGES[k % len(STORAGES)]) for k in range(length)]
    with tempfile.TemporaryDirectory() as folder:
        models = arguments.models or Path(folder) / "models"
        if not arguments.models:
            export_saved_model(arguments.weights, models)
        newest = max((models / "gm_nifti").iterdir(), key=lambda path: int(path.name))
        serve = tf.saved_model.load(str(newest)).signatures["serving_default"]
        path = Path(folder) / "image.nii"
        # The first call of either prepares what the others use.
        serve(nifti_bytes=tf.constant([image.to_bytes()]))
        segmenter.segment(image)
        differing, total = {}, {}
        seconds = {"served": 0.0, "segment": 0.0}
        for number, (codes, (voxel_type, byte_order, is_packed)) in enumerate(cases, 1):
            data = stored(image, codes, voxel_type, byte_order)
            path.write_bytes(gzip.compress(data) if is_packed else data)
            started = time.process_time()
            expected = segmenter.segment(path)
            seconds["segment"] += time.process_time() - started
            started = time.process_time()
            answer = serve(nifti_bytes=tf.constant([path.read_bytes()]))
            seconds["served"] += time.process_time() - started
            found = []
            for tissue, (mask, own, same_file) in compared(answer, expected, Path(folder)).items():
                n_different = np.count_nonzero(mask != own)
                differing[tissue] = differing.get(tissue, 0) + n_different
                total[tissue] = total.get(tissue, 0) + np.count_nonzero(own)
                found.append(
                    f"{tissue} {n_different} voxels differ, {'same' if same_file else 'another'} file"
                )
            print(
                f"{number}/{len(cases)} {codes} {byte_order}{voxel_type}{' gzip' if is_packed else ''}: "
                f"{'; '.join(found)}",
                flush=True,
            )
    for tissue, n_different in differing.items():
        print(f"{n_different} of {total[tissue]} {tissue} voxels differ in {len(cases)} files")
    print(f"processor time served / of segment: {seconds['served'] / seconds['segment']:.2f}")


if __name__ == "__main__":
    main()

"""Segmentation of an image: the steps of paper Figure 4, and resampling of the result to the native grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np

from keras_scgm import checks, messages
from keras_scgm.errors import InputError
from keras_scgm.files import sha256_of, unchanged
from keras_scgm.images import check_is_image
from keras_scgm.localization import Windows
from keras_scgm.morphometry import tissue_areas
from keras_scgm.nifti import read_volume, volume_from_image
from keras_scgm.predict import Predict
from keras_scgm.prediction import Ensemble, Weights
from keras_scgm.pretrained import DEFAULT_WEIGHTS, TISSUES, WeightsCard
from keras_scgm.quality.verdicts import anatomical_doubts, predict_quality
from keras_scgm.segmentation.config import SegmentationConfig
from keras_scgm.segmentation.given_cord import GivenCord
from keras_scgm.segmentation.native_grid import Chunk, NativeGrid
from keras_scgm.segmentation.placement import place_windows
from keras_scgm.segmentation.record import make_record, slice_areas
from keras_scgm.segmentation.result import Segmentation
from keras_scgm.segmentation.stream import Part, stream
from keras_scgm.segmentation.warnings import image_doubts, result_warnings
from keras_scgm.segmentation.window_prediction import WindowPrediction, WindowPredictor
from keras_scgm.slices import chunks
from keras_scgm.uncertainty import Uncertainty, measure_uncertainty
from keras_scgm.volume import Volume

Progress = Callable[[int, int], None]

Found = tuple[WindowPrediction, Uncertainty | None]


def segment(
    image: str | Path | nib.spatialimages.SpatialImage,
    weights: Weights | Sequence[Weights] | None = None,
    *,
    binarize: Literal["native", "paper"] = "native",
    threshold: float | None = None,
    window: Literal["auto", "center"] | tuple[float, float] = "auto",
    cord: str | Path = "auto",
    mirror: bool = False,
    uncertainty_passes: int = 0,
    seed: int = 0,
    frame: int | None = None,
    orientation: str | None = None,
    keep_probabilities: bool = True,
    runtime: str = "auto",
    precision: str = "float32",
    progress: Progress | None = None,
) -> Segmentation:
    """Segment the gray matter of the spinal cord in an image, and the cord with weights that know it.

    The arguments from `binarize` to `precision` are the fields of `SegmentationConfig`, which says what they mean.

    Example:
        >>> from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
        >>> from keras_scgm.models import DilatedGMNet
        >>> image = draw_subject(PhantomConfig(matrix_size=64, n_slices=2), seed=1).image
        >>> untrained = DilatedGMNet(filters=2)
        >>> segment(image, weights=untrained, mirror=True).mask.shape
        (64, 64, 2)

    Args:
        image: NIfTI file or nibabel image, any orientation; axial slices are found from its affine.
        weights: Known name, file, model or card of an ensemble; the probabilities of several are averaged.
            The default comes with the package.
        progress: Called with (slices done, slices in all).

    Raises:
        keras_scgm.errors.InputError: the image, the weights or a setting cannot be used.
    """
    config = SegmentationConfig(
        binarize=binarize,
        threshold=threshold,
        window=window,
        cord=cord,
        mirror=mirror,
        uncertainty_passes=uncertainty_passes,
        seed=seed,
        frame=frame,
        orientation=orientation,
        keep_probabilities=keep_probabilities,
        runtime=runtime,
        precision=precision,
    )
    return Segmenter(weights, config).segment(image, progress)


class Segmenter:
    """Networks that are loaded once and segment many images.

    Args:
        weights: Weights as in `segment`.
        config: Settings as in `segment`.

    Raises:
        keras_scgm.errors.InputError: the weights cannot be used, or not together, or there is no such cord.
    """

    def __init__(
        self,
        weights: Weights | Sequence[Weights] | None = None,
        config: SegmentationConfig | None = None,
    ) -> None:
        self.config: SegmentationConfig = checks.settings(SegmentationConfig)("config", config)
        self._cord = self.config.cord if isinstance(self.config.cord, Path) else None
        if self._cord is not None and not self._cord.is_file():
            raise InputError(f"{self._cord}: no such file; give a mask of the cord, or leave it out")
        self.networks = Ensemble(
            DEFAULT_WEIGHTS if weights is None else weights,
            mirror=self.config.mirror,
            runtime=self.config.runtime,
            precision=self.config.precision,
            binarize=self.config.binarize,
            threshold=self.config.threshold,
            cord="none" if isinstance(self.config.cord, Path) else self.config.cord,
        )

    @property
    def threshold(self) -> float:
        """Probability above which a voxel is gray matter."""
        return self.networks.thresholds[0]

    @property
    def has_cord(self) -> bool:
        """Whether results have a cord beside the gray matter."""
        return self._cord is not None or len(self.networks.tissues) > 1

    @property
    def provenance(self) -> dict[str, Any]:
        """Everything a result depends on besides its image, for the JSON record."""
        networks, given = self.networks, self._cord
        return {
            "program": f"keras_scgm {version('keras_scgm')}",
            "runtime": networks.runtime,
            "weights": [_identity(card) for card in networks.cards],
            "cord_weights": _identity(networks.cord_card) if networks.cord_card else None,
            "cord_sha256": sha256_of(given) if given else None,
            "settings": {**asdict(self.config), "cord": str(self.config.cord)},
            "tissues": list(TISSUES[1] if self.has_cord else TISSUES[0]),
            "threshold": self.threshold,
            "cord_threshold": networks.thresholds[1] if len(networks.tissues) > 1 else None,
            "slices": asdict(self.networks.config),
        }

    def segment(
        self, image: str | Path | nib.spatialimages.SpatialImage, progress: Progress | None = None
    ) -> Segmentation:
        """Segment one image.

        Args:
            image: NIfTI file or nibabel image.
            progress: Called with (slices done, slices in all).

        Raises:
            keras_scgm.errors.InputError: the image cannot be used, or changes while it is read.
        """
        config = self.config
        checks.optional(checks.function)("progress", progress)
        if isinstance(image, (str, Path)):
            path = checks.path("image", image)
            with unchanged(path, *([self._cord] if self._cord else [])):
                volume = read_volume(path, config.frame, config.orientation)
                check_is_image(volume)
                with ThreadPoolExecutor(1) as beside:
                    digest = beside.submit(sha256_of, path)
                    result = self._segment_volume(volume, progress)
                return replace(result, record={**result.record, "input_sha256": digest.result()})
        if not isinstance(image, nib.spatialimages.SpatialImage):
            raise InputError(
                f"image must be a NIfTI file or a nibabel image, received {type(image).__name__}; "
                "wrap an array with its affine in nibabel.Nifti1Image"
            )
        volume = volume_from_image(image, config.frame, config.orientation)
        check_is_image(volume)
        return self._segment_volume(volume, progress)

    def _segment_volume(self, volume: Volume, progress: Progress | None) -> Segmentation:
        started = time.monotonic()
        networks, config = self.networks, self.config
        cord = GivenCord.read(self._cord, volume) if self._cord else None
        windows = place_windows(volume, networks.config, networks.predict, config.window, cord)
        if networks.slice_reach is not None:
            # They were predicted without their neighbours.
            windows = replace(windows, probabilities={})
        native = NativeGrid(volume, windows, config, networks.thresholds, self.has_cord)
        if not windows.statistics.is_constant or cord:
            self._fill(native, volume, windows, cord, progress)
        gray_matter = partial(volume.axial_slices, native.mask)
        tissues = tissue_areas(
            volume, gray_matter, None if native.cord is None else partial(volume.axial_slices, native.cord)
        )
        of_image, of_anatomy = image_doubts(volume, windows), anatomical_doubts(native.features)
        if cord:
            of_image += [messages.GIVEN_CORD.format(text) for text in cord.volume.warnings]
            of_anatomy += cord.doubts(gray_matter, tissues)
        quality = predict_quality(native.features, [*of_image, *of_anatomy], networks.unknown_contrast)
        warnings = result_warnings(
            volume,
            windows,
            of_image,
            of_anatomy,
            native.measurements,
            quality,
            networks.unknown_contrast,
            self.has_cord,
        )
        record = make_record(
            volume,
            networks.config,
            windows,
            native.measurements,
            quality,
            warnings,
            started,
            self.has_cord,
        )
        return Segmentation(
            volume=volume,
            mask_voxels=native.mask,
            cord_voxels=native.cord,
            probability_voxels=native.probabilities,
            cord_probability_voxels=native.cord_probabilities,
            uncertainty_voxels=native.uncertainty,
            areas=slice_areas(volume, native.measurements, quality, tissues),
            quality=quality,
            warnings=warnings,
            record={**self.provenance, **record},
        )

    def _fill(
        self,
        native: NativeGrid,
        volume: Volume,
        windows: Windows,
        cord: GivenCord | None,
        progress: Progress | None,
    ) -> None:
        """Predict and measure the volume, chunk by chunk."""
        networks, config = self.networks, self.config
        predict_windows = WindowPredictor(
            networks.config.spacing_mm,
            networks.thresholds,
            around_cord=config.window == "auto",
            keeps_detached=config.binarize == "paper",
            in_stacks=networks.slice_reach is not None,
        )
        reach = networks.slice_reach or 0

        def read(part: Part) -> Chunk:
            start, stop = max(part[0] - reach, 0), min(part[1] + reach, volume.n_slices)
            native_slices, _ = volume.view_slices(start, stop)
            resampled = windows.geometry.to_windows(native_slices, start)
            normalised = windows.statistics.normalize(resampled)[..., np.newaxis]
            return Chunk(start, native_slices, normalised, None if cord is None else cord.masks(start, stop))

        def predict(_: Part, seen: Chunk) -> Found:
            def again(network: Predict, changed_slices: np.ndarray, changed: Windows) -> np.ndarray:
                found = predict_windows(network, changed_slices, changed, seen.start, seen.cord)
                return found.probabilities[..., 0]

            found = predict_windows(networks.predict, seen.windows, windows, seen.start, seen.cord)
            if not config.uncertainty_passes:
                return found, None
            passes, seed = config.uncertainty_passes, config.seed
            return found, measure_uncertainty(
                networks.members, again, seen.native, windows, seen.start, passes, seed, seen.cord
            )

        def add(part: Part, seen: Chunk, found: Found) -> None:
            own = slice(part[0] - seen.start, part[1] - seen.start)
            prediction, uncertainty = found
            native.add(seen.of(own), prediction.of(own), uncertainty.of(own) if uncertainty else None)

        for _, stop in stream([*chunks(volume.n_slices)], read, predict, add):
            if progress:
                progress(stop, volume.n_slices)


def _identity(card: WeightsCard) -> dict[str, str]:
    return {"name": card.name, "sha256": card.sha256}

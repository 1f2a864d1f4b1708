"""From an image to its gray matter: the whole of paper Figure 4, and resampling of the result onto the image's grid."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np

from keras_scgm import checks
from keras_scgm.cropping import predict_around
from keras_scgm.detached_pieces import remove_detached
from keras_scgm.errors import InputError
from keras_scgm.images import check_is_image
from keras_scgm.localization import Windows, fixed_windows, windows_on_cord
from keras_scgm.morphometry import SliceArea
from keras_scgm.nifti import axis_codes, read_volume, volume_from_image
from keras_scgm.prediction import Ensemble, Weights
from keras_scgm.pretrained import DEFAULT_WEIGHTS, sha256_of
from keras_scgm.quality import (
    PASS_DSC,
    Quality,
    SliceFeatures,
    anatomical_doubts,
    compare_with_neighbours,
    noise_level,
    predict_quality,
    slice_features,
)
from keras_scgm.runtimes import check_choice
from keras_scgm.runtimes.folding import PredictCrops
from keras_scgm.slices import EDGE_MM, Region, SliceGeometry, chunks, is_varied
from keras_scgm.uncertainty import Spread, measure_spread
from keras_scgm.volume import Volume, Voxels, zeros

Progress = Callable[[int, int], None]

COARSE_MM = 1.25
"""In-plane spacing above which gray matter, some 2 mm wide in the horns, is not resolved."""

NO_CORD = "no cord was found; the windows stay where they are"


@dataclass(frozen=True)
class SegmentationSettings:
    """How an image is segmented; everything that a result depends on besides the image and the weights.

    Args:
        binarize: "native" brings the probabilities back to the image's grid and cuts them there; "paper"
            cuts at the network's 0.25 mm, brings the mask back and cuts it at 0.5, as the Spinal Cord
            Toolbox does.
        threshold: probability above which a voxel is gray matter, between 0 and 1; None takes the one in
            the weights' card for the chosen way.
        window: "auto" finds the cord, "center" is the middle of the field of view (paper 3.4.1), or the
            window's centre as (right-left, posterior-anterior) in mm from the image's right posterior
            corner.
        mirror: average with the prediction of the left-right mirrored slice.
        uncertainty_passes: Number of predictions of slightly changed images for the uncertainty map
            (`keras_scgm.uncertainty`), at least 2; 0 makes no map.
        seed: Seed of those changes.
        frame: which frame of a 4-D image, from 0.
        orientation: axis codes, such as "LAS", for an image whose header has no orientation.
        keep_probabilities: keep the probabilities on the image's grid beside the mask.
        runtime: what computes the network, one of `keras_scgm.runtimes.NAMES`; None takes TensorFlow, or
            Keras if its backend is another.
        precision: "float32", or "bfloat16" for less time and probabilities that differ by about 0.002.

    Raises:
        InputError: a value outside its range.
    """

    binarize: Literal["native", "paper"] = "native"
    threshold: float | None = None
    window: Literal["auto", "center"] | tuple[float, float] = "auto"
    mirror: bool = False
    uncertainty_passes: int = 0
    seed: int = 0
    frame: int | None = None
    orientation: str | None = None
    keep_probabilities: bool = True
    runtime: str | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        checks.check_fields(
            self,
            binarize=checks.one_of(("native", "paper")),
            threshold=checks.optional(checks.number(above=0, below=1)),
            window=_window,
            mirror=checks.flag,
            uncertainty_passes=checks.integer(0),
            seed=checks.seed,
            frame=checks.optional(checks.integer(0)),
            orientation=checks.optional(checks.text),
            keep_probabilities=checks.flag,
        )
        if self.uncertainty_passes == 1:
            raise InputError("uncertainty_passes must be 0 or at least 2, received 1")
        if self.orientation is not None:
            axis_codes(self.orientation)
        check_choice(self.runtime, self.precision)


def _window(name: str, value: Any) -> str | tuple[float, float]:
    if isinstance(value, str) and value in ("auto", "center"):
        return value
    x_mm, y_mm = checks.several(checks.number(), "'auto', 'center' or two numbers in mm", length=2)(
        name, value
    )
    return x_mm, y_mm


@dataclass(frozen=True)
class Segmentation:
    """The gray matter of one image.

    Args:
        volume: the image.
        mask_voxels: uint8, 1 is gray matter, on the stored grid of the image.
        probability_voxels: float32 in [0, 1] on the same grid, if they were kept; 0 where nothing was computed,
            outside the windows and far from the cord (`keras_scgm.cropping`).
        uncertainty_voxels: float32 standard deviation of the probability over the passes, on the same grid, if
            there were any.
        areas: one per slice, in the order of the file.
        quality: how far the result can be trusted, with one judgement per slice from the inferior end.
        warnings: what may be wrong with the result, one line each.
        record: how the result was made, ready for JSON.
    """

    volume: Volume
    mask_voxels: Voxels
    probability_voxels: Voxels | None
    uncertainty_voxels: Voxels | None
    areas: tuple[SliceArea, ...]
    quality: Quality
    warnings: tuple[str, ...]
    record: dict[str, Any]

    @property
    def mask(self) -> nib.Nifti1Image:
        """uint8 image on the input grid, 1 is gray matter."""
        return self.volume.result_image(self.mask_voxels)

    @property
    def probabilities(self) -> nib.Nifti1Image:
        """float32 image on the input grid, in [0, 1].

        Raises:
            InputError: the settings did not ask to keep them.
        """
        return self.volume.result_image(_kept(self.probability_voxels, "keep_probabilities=True"))

    @property
    def uncertainty(self) -> nib.Nifti1Image:
        """float32 image on the input grid: standard deviation (n - 1) of the probability, in [0, 0.71].

        Raises:
            InputError: the settings asked for no passes.
        """
        return self.volume.result_image(_kept(self.uncertainty_voxels, "uncertainty_passes=10, for example"))


def _kept(voxels: Voxels | None, setting: str) -> Voxels:
    if voxels is None:
        raise InputError(f"not computed; segment with {setting}")
    return voxels


def segment(
    image: str | Path | nib.spatialimages.SpatialImage,
    weights: Weights | Sequence[Weights] | None = None,
    *,
    progress: Progress | None = None,
    **settings: Any,
) -> Segmentation:
    """Segment the spinal cord gray matter of an image.

    Example:
        >>> from keras_scgm.datasets.phantom import PhantomSpec, draw_subject
        >>> from keras_scgm.models import DilatedGMNet
        >>> image = draw_subject(PhantomSpec(matrix_size=64, n_slices=2), seed=1).image
        >>> untrained = DilatedGMNet(filters=2)
        >>> segment(image, weights=untrained, mirror=True).mask.shape
        (64, 64, 2)

    Args:
        image: NIfTI file or nibabel image, any orientation; axial slices are found from its affine.
        weights: known name, file, or model; several make an ensemble, whose probabilities are averaged.
            The default comes with the package.
        progress: called with (slices done, slices in all).
        settings: the fields of `SegmentationSettings`.

    Raises:
        keras_scgm.errors.InputError: the image, the weights or a setting cannot be used.
        TypeError: an unknown setting.
    """
    return Segmenter(weights, SegmentationSettings(**settings)).segment(image, progress)


class Segmenter:
    """Networks loaded once, for many images.

    Args:
        weights: as in `segment`.
        settings: as in `segment`.

    Raises:
        keras_scgm.errors.InputError: the weights cannot be used, or not together.
    """

    def __init__(
        self,
        weights: Weights | Sequence[Weights] | None = None,
        settings: SegmentationSettings | None = None,
    ) -> None:
        is_settings = checks.instance(SegmentationSettings, "SegmentationSettings")
        self.settings = checks.optional(is_settings)("settings", settings) or SegmentationSettings()
        self.networks = Ensemble(
            DEFAULT_WEIGHTS if weights is None else weights,
            mirror=self.settings.mirror,
            runtime=self.settings.runtime,
            precision=self.settings.precision,
        )

    @property
    def threshold(self) -> float:
        """The settings' threshold, or the mean of the cards'."""
        if self.settings.threshold is not None:
            return self.settings.threshold
        name = "paper_threshold" if self.settings.binarize == "paper" else "threshold"
        return float(np.mean([getattr(card, name) for card in self.networks.cards]))

    @property
    def provenance(self) -> dict[str, Any]:
        """What any result of this segmenter depends on besides its image, ready for JSON."""
        return {
            "program": f"keras_scgm {version('keras_scgm')}",
            "runtime": self.networks.runtime,
            "weights": [{"name": card.name, "sha256": card.sha256} for card in self.networks.cards],
            "settings": asdict(self.settings),
            "threshold": self.threshold,
            "slices": asdict(self.networks.spec),
        }

    def segment(
        self, image: str | Path | nib.spatialimages.SpatialImage, progress: Progress | None = None
    ) -> Segmentation:
        """Segment one image.

        Args:
            image: NIfTI file or nibabel image.
            progress: called with (slices done, slices in all).

        Raises:
            keras_scgm.errors.InputError: the image cannot be used.
        """
        settings = self.settings
        checks.optional(checks.function)("progress", progress)
        if isinstance(image, (str, Path)):
            path = checks.path("image", image)
            volume = read_volume(path, settings.frame, settings.orientation)
            check_is_image(volume)
            with ThreadPoolExecutor(1) as beside:
                digest = beside.submit(sha256_of, path)
                result = _Run(self, volume).result(progress)
            return replace(result, record={**result.record, "input_sha256": digest.result()})
        if not isinstance(image, nib.spatialimages.SpatialImage):
            raise InputError(
                f"image must be a NIfTI file or a nibabel image, received {type(image).__name__}; "
                "wrap an array with its affine in nibabel.Nifti1Image"
            )
        volume = volume_from_image(image, settings.frame, settings.orientation)
        check_is_image(volume)
        return _Run(self, volume).result(progress)


class _Run:
    """One image going through: what is accumulated slice by slice."""

    def __init__(self, segmenter: Segmenter, volume: Volume) -> None:
        self.provenance = segmenter.provenance
        self.networks = segmenter.networks
        self.settings = segmenter.settings
        self.threshold = segmenter.threshold
        self.volume = volume
        self.started = time.time()
        shape = volume.voxels.shape
        self.mask = zeros(np.dtype(np.uint8), shape)
        wanted = self.settings.keep_probabilities
        self.probabilities = zeros(np.dtype(np.float32), shape) if wanted else None
        wanted = self.settings.uncertainty_passes > 0
        self.uncertainty = zeros(np.dtype(np.float32), shape) if wanted else None
        self.n_voxels = np.zeros(volume.n_slices, int)
        self.removed_mm2 = np.zeros(volume.n_slices)
        self.mask_probability = np.zeros(volume.n_slices)
        self.probability_sum = np.zeros(volume.n_slices)
        self.near_edge = np.zeros(volume.n_slices, bool)
        self.uncertainty_sum = np.full(volume.n_slices, np.nan)
        self.area_std = np.full(volume.n_slices, np.nan)
        self.features = [SliceFeatures(area_mm2=0.0)] * volume.n_slices
        self.warnings = [*volume.warnings]
        self.doubts = [*volume.warnings]

    def result(self, progress: Progress | None) -> Segmentation:
        volume = self.volume
        right_left_mm, anterior_posterior_mm = volume.in_plane_spacing_mm
        if max(right_left_mm, anterior_posterior_mm) > COARSE_MM:
            self._doubt(
                f"axial voxels of {right_left_mm:.2g} x {anterior_posterior_mm:.2g} mm are too coarse for "
                "gray matter; is this an axial acquisition?"
            )
        windows = self._windows()
        statistics = windows.statistics
        if windows.cord is None:
            self._doubt(NO_CORD)
        if statistics.n_not_finite:
            self.warnings.append(
                f"{statistics.n_not_finite} voxels are NaN or infinite; each was given the mean of its slice"
            )
        if statistics.is_constant:
            self.warnings.append("the image is constant inside the window; the mask is empty")
        else:
            self._segment(windows, progress)
        quality = self._quality()
        if not statistics.is_constant:
            self._warn(quality)
            self._warn_of_quality(quality)
        return Segmentation(
            volume=volume,
            mask_voxels=self.mask,
            probability_voxels=self.probabilities,
            uncertainty_voxels=self.uncertainty,
            areas=self._areas(quality),
            quality=quality,
            warnings=tuple(self.warnings),
            record=self._record(windows, quality),
        )

    def _doubt(self, warning: str) -> None:
        """Warns of what speaks against the whole volume, which then does not pass."""
        self.warnings.append(warning)
        self.doubts.append(warning)

    def _quality(self) -> Quality:
        for doubt in anatomical_doubts(self.features):
            self._doubt(doubt)
        return predict_quality(self.features, self.doubts, self.networks.knows_dark)

    def _windows(self) -> Windows:
        volume, spec, predict = self.volume, self.networks.spec, self.networks.predict
        window = self.settings.window
        if window == "auto":
            return windows_on_cord(volume, spec, predict)
        centered = SliceGeometry.centered(volume, spec)
        if window == "center":
            return fixed_windows(volume, centered, predict)
        field_mm = np.multiply(volume.in_plane_shape, volume.in_plane_spacing_mm)
        if not np.all((np.array(window) >= 0) & (np.array(window) <= field_mm)):
            raise InputError(
                f"{volume.source}: window centre {window[0]:g},{window[1]:g} mm is outside the field "
                f"of view of {field_mm[0]:g} x {field_mm[1]:g} mm"
            )
        center = np.divide(window, centered.pixel_spacing_mm)
        return fixed_windows(volume, centered.recentered(np.tile(center, (volume.n_slices, 1))), predict)

    def _segment(self, windows: Windows, progress: Progress | None) -> None:
        """Reads the next chunk and takes in the last one on a thread of its own while the network computes."""
        n_slices = self.volume.n_slices
        parts = list(chunks(n_slices))
        with ThreadPoolExecutor(1) as helper:
            ahead = helper.submit(self._read, windows, *parts[0])
            behind: Future[None] | None = None
            for number, (start, stop) in enumerate(parts):
                native_slices, slices = ahead.result()
                if stop < n_slices:
                    ahead = helper.submit(self._read, windows, *parts[number + 1])
                probabilities, n_removed = self._predict(self.networks.predict, slices, windows, start)
                spread = self._spread(native_slices, windows, start)
                if behind:
                    behind.result()
                behind = helper.submit(
                    self._take_in, windows, start, native_slices, slices, probabilities, n_removed, spread
                )
                if progress:
                    progress(stop, n_slices)
            if behind:
                behind.result()

    def _read(self, windows: Windows, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Slices [start, stop) of the image, and the network's input for them."""
        native_slices, _ = self.volume.view_slices(start, stop)
        resampled = windows.geometry.to_windows(native_slices, start)
        return native_slices, windows.statistics.normalize(resampled)[..., np.newaxis]

    def _take_in(
        self,
        windows: Windows,
        start: int,
        native_slices: np.ndarray,
        slices: np.ndarray,
        probabilities: np.ndarray,
        n_removed: np.ndarray,
        spread: Spread | None,
    ) -> None:
        """Resamples predictions to the native grid and computes the quality features."""
        geometry, spacing_mm = windows.geometry, self.networks.spec.spacing_mm
        if spread is not None:
            self._store_uncertainty(spread, start)
        volume = self.volume
        mask_view = volume.axial_view(self.mask)
        probability_view = None if self.probabilities is None else volume.axial_view(self.probabilities)
        cut = None
        if self.settings.binarize == "paper":
            cut = geometry.to_native((probabilities > self.threshold).astype(np.float32), start)
        self.removed_mm2[start : start + len(slices)] = n_removed * spacing_mm**2
        for k, (region, native) in enumerate(geometry.to_native(probabilities, start)):
            index = start + k
            mask = native > self.threshold if cut is None else _placed(*next(cut), region) > 0.5
            box = _extent(mask)
            gray_matter, place = mask[box], _shifted(box, region)
            mask_view[(*place, index)] = gray_matter
            if probability_view is not None:
                probability_view[(*region, index)] = native
            self.n_voxels[index] = np.count_nonzero(gray_matter)
            self.mask_probability[index] = native[box][gray_matter].sum()
            self.probability_sum[index] = native.sum()
            self.near_edge[index] = self._is_near_edge(place, geometry.covered(index))
            if self.n_voxels[index]:
                self.features[index] = slice_features(
                    slices[k, ..., 0],
                    probabilities[k],
                    spacing_mm,
                    threshold=self.threshold,
                    origin=geometry.starts[index],
                    unit=windows.statistics.std,
                    near_edge=bool(self.near_edge[index]),
                    noise=noise_level(native_slices[k], place, volume.in_plane_spacing_mm),
                    voxel_mm=math.sqrt(volume.voxel_area_mm2),
                    removed_mm2=float(self.removed_mm2[index]),
                )
        compare_with_neighbours(self.features, start, start + len(slices), spacing_mm)

    def _predict(
        self, predict: PredictCrops, slices: np.ndarray, windows: Windows, start: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities of consecutive windows, computed where they are not known yet, and pixels removed."""
        networks, known, spacing_mm = self.networks, windows.probabilities, self.networks.spec.spacing_mm
        here = slice(start, start + len(slices))
        centers = None if windows.cord is None else windows.cord[here]
        probabilities = np.zeros(slices.shape[:3], np.float32)
        is_new = np.array([start + k not in known for k in range(len(slices))]) & is_varied(slices)
        if is_new.any() and centers is not None and networks.takes_crops and self.settings.window == "auto":
            probabilities[is_new] = predict_around(
                predict, slices[is_new], centers[is_new], spacing_mm, self.threshold
            )
        elif is_new.any():
            probabilities[is_new] = predict(slices[is_new])
        for k in range(len(slices)):
            if start + k in known:
                probabilities[k] = known[start + k]
        windows.geometry.clear_past_field(probabilities, start)
        if centers is None or self.settings.binarize == "paper":
            return probabilities, np.zeros(len(slices), int)
        return remove_detached(probabilities, centers, windows.cord_steps[here], self.threshold, spacing_mm)

    def _spread(self, native_slices: np.ndarray, windows: Windows, start: int) -> Spread | None:
        passes, seed = self.settings.uncertainty_passes, self.settings.seed
        if not passes:
            return None

        def predict_windows(predict: PredictCrops, slices: np.ndarray, changed: Windows) -> np.ndarray:
            return self._predict(predict, slices, changed, start)[0]

        return measure_spread(
            self.networks.predictors, predict_windows, native_slices, windows, start, passes, seed
        )

    def _store_uncertainty(self, spread: Spread, start: int) -> None:
        part = slice(start, start + len(spread.std))
        view = self.volume.axial_view(_kept(self.uncertainty, "uncertainty_passes"))
        view[..., part] = np.moveaxis(spread.std, 0, -1)
        self.uncertainty_sum[part] = spread.std.sum(axis=(1, 2))
        self.area_std[part] = spread.area_std

    def _is_near_edge(self, place: Region, covered: Region) -> bool:
        for part, seen, spacing_mm in zip(place, covered, self.volume.in_plane_spacing_mm, strict=True):
            margin = max(1, round(EDGE_MM / spacing_mm))
            if (
                part.start < part.stop
                and not seen.start + margin <= part.start < part.stop <= seen.stop - margin
            ):
                return True
        return False

    def _warn(self, quality: Quality) -> None:
        present = np.flatnonzero(self.n_voxels)
        if not len(present):
            self.warnings.append("no gray matter was found; the mask is empty")
            return
        missing = np.setdiff1d(np.arange(present[0], present[-1] + 1), present)
        if len(missing):
            self.warnings.append(f"no gray matter between slices that have some: {self._name(missing)}")
        if self.near_edge.any():
            self.warnings.append(
                f"gray matter within {EDGE_MM:g} mm of the edge of the window or the field of view, "
                f"it may be cut off: {self._name(np.flatnonzero(self.near_edge))}"
            )
        if quality.contrast < 0 and not self.networks.knows_dark:
            self.warnings.append(
                "gray matter is darker than its surroundings; the contrast may be inverted "
                "(PSIR, T1-weighted), which these weights may not know"
            )

    def _warn_of_quality(self, quality: Quality) -> None:
        suspects = [k for k, one in enumerate(quality.slices) if one.verdict != "pass" and self.n_voxels[k]]
        look = f"; look at {self._name(suspects)}" if suspects else ""
        if quality.verdict != "pass" and quality.reason not in self.warnings:
            self.warnings.append(
                f"predicted DSC {quality.predicted_dsc:.2f}, {quality.verdict}: {quality.reason}{look}"
            )
        elif quality.verdict == "pass" and suspects:
            reasons = Counter(quality.slices[k].reason for k in suspects)
            self.warnings.append(
                f"predicted DSC below {PASS_DSC:g} in some slices: {reasons.most_common(1)[0][0]}{look}"
            )

    def _name(self, indices: Sequence[int] | np.ndarray) -> str:
        stored = sorted(self.volume.stored_slice_index(int(index)) for index in indices)
        shown = ", ".join(map(str, stored[:10])) + (", ..." if len(stored) > 10 else "")
        return f"slice {shown}" if len(stored) == 1 else f"slices {shown}"

    def _areas(self, quality: Quality) -> tuple[SliceArea, ...]:
        volume = self.volume
        voxel_area_mm2, slice_spacing_mm = volume.voxel_area_mm2, volume.slice_spacing_mm
        rows = [
            SliceArea(
                slice=volume.stored_slice_index(k),
                position_mm=k * slice_spacing_mm,
                area_mm2=float(self.n_voxels[k] * voxel_area_mm2),
                soft_area_mm2=float(self.probability_sum[k] * voxel_area_mm2),
                n_voxels=int(self.n_voxels[k]),
                mean_probability=float(self.mask_probability[k] / self.n_voxels[k])
                if self.n_voxels[k]
                else float("nan"),
                warning=one.reason,
                contrast=one.features.contrast,
                noise=one.features.noise,
                predicted_dsc=one.predicted_dsc,
                verdict=one.verdict,
                area_sd_mm2=float(self.area_std[k] * voxel_area_mm2),
                uncertainty=float(self.uncertainty_sum[k] / self.probability_sum[k])
                if self.n_voxels[k]
                else float("nan"),
            )
            for k, one in enumerate(quality.slices)
        ]
        return tuple(sorted(rows, key=lambda row: row.slice))

    def _record(self, windows: Windows, quality: Quality) -> dict[str, Any]:
        volume, geometry, statistics = self.volume, windows.geometry, windows.statistics
        centered = SliceGeometry.centered(volume, self.networks.spec)
        return self.provenance | {
            "input": volume.source,
            "shape": list(volume.shape),
            "spacing_mm": [float(x) for x in np.linalg.norm(volume.affine[:3, :3], axis=0)],
            "orientation": "".join(nib.aff2axcodes(volume.affine)),
            "axial_axis": volume.axial_axis,
            "window_moved": bool((geometry.starts != centered.starts).any()),
            "intensity_mean": statistics.mean,
            "intensity_std": statistics.std,
            "gray_matter_volume_mm3": float(
                self.n_voxels.sum() * volume.voxel_area_mm2 * volume.slice_spacing_mm
            ),
            "removed_away_from_cord_mm3": float(self.removed_mm2.sum() * volume.slice_spacing_mm),
            "quality": quality.as_record(volume.stored_slice_index),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)),
            "seconds": round(time.time() - self.started, 3),
            "warnings": list(self.warnings),
        }


def _placed(part: Region, values: np.ndarray, region: Region) -> np.ndarray:
    """Values of a part of a region in the whole of it, zero around them."""
    placed = np.zeros([along.stop - along.start for along in region])
    rows, columns = (
        slice(inner.start - outer.start, inner.stop - outer.start)
        for inner, outer in zip(part, region, strict=True)
    )
    placed[rows, columns] = values
    return placed


def _extent(mask: np.ndarray) -> Region:
    """The smallest box around what is in a mask, from its first voxel; of no size if there is nothing."""
    box = []
    for axis in (0, 1):
        marked = np.flatnonzero(mask.any(axis=1 - axis))
        box.append(slice(int(marked[0]), int(marked[-1]) + 1) if len(marked) else slice(0, 0))
    return box[0], box[1]


def _shifted(box: Region, region: Region) -> Region:
    """A box of a region as a region of the slice."""
    rows, columns = (
        slice(outer.start + inner.start, outer.start + inner.stop)
        for inner, outer in zip(box, region, strict=True)
    )
    return rows, columns

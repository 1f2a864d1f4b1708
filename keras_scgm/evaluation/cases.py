"""Which prediction belongs to which raters' masks, and reading both on one grid."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import aff2axcodes
from nibabel.processing import resample_from_to

from keras_scgm import checks
from keras_scgm.datasets.scgm_challenge import IMAGE_NAME, MASK_NAME
from keras_scgm.errors import InputError
from keras_scgm.evaluation.challenge import MeasuredMask
from keras_scgm.files import RESULT_SUFFIX, nifti_files, nifti_stem
from keras_scgm.grids import canonical_grid, grid_difference, shape_text
from keras_scgm.nifti import read_layout, read_volume
from keras_scgm.slices import chunks
from keras_scgm.volume import Volume

CHALLENGE_CASE = re.compile(r"(site(\d+)-sc\d+)(?:\D|$)")
CHALLENGE_LABEL = 1
"""Gray matter in the challenge's masks, where 2 is white matter."""

LISTED_VALUES = 6


@dataclass(frozen=True)
class Case:
    """A volume with the masks that models and raters made of it.

    Args:
        case_id: what its files' names have in common.
        site_id: of the challenge's layout, None elsewhere.
        predictions: mask of each model that has one.
        references: mask of each rater, by the rater's name.
        image: the volume itself, where it was found.
    """

    case_id: str
    site_id: str | None
    predictions: Mapping[str, Path]
    references: Mapping[str, Path]
    image: Path | None = None


@dataclass
class _Found:
    """The files of a case while they are collected."""

    predictions: dict[str, Path] = field(default_factory=dict)
    references: dict[str, Path] = field(default_factory=dict)
    image: Path | None = None


def find_cases(
    predictions: Mapping[str, Path], references: Sequence[Path], images: Path | None = None
) -> tuple[list[Case], list[str]]:
    """Pair the masks of models and raters.

    Two files belong together whatever their names. In folders, which are searched through, names decide:
    `site1-sc01` in the challenge's layout, otherwise the prediction's name without `_gmseg` is the beginning of
    the reference's. Of a folder that holds files named `*_gmseg` only these are predictions.

    Args:
        predictions: a file or a folder for each model.
        references: files or folders. Several are one rater each; in one folder the masks of a case are one
            rater each, in the order of their names.
        images: file or folder of the volumes; the challenge's are found beside its masks.

    Returns:
        Cases with at least one prediction and one reference, by name; and what has no partner, one line each.

    Raises:
        InputError: a path does not exist, a name is there twice, or nothing belongs together.
    """
    found: defaultdict[str, _Found] = defaultdict(_Found)
    if all(path.is_file() for path in predictions.values()):
        files = [*references, *predictions.values()]
        case_id = _key(next(path for path in files if path.is_file()))
        found[case_id].predictions.update(predictions)
    else:
        for model, place in predictions.items():
            for path in _predictions_in(place):
                _add(found[_key(path)].predictions, model, path)
    keys = list(found)
    taken = {path for case in found.values() for path in case.predictions.values()}
    strays = []
    names = _rater_names(references)
    for place, name in zip(references, names, strict=True):
        if place.is_file() and len(keys) == 1:
            _add(found[keys[0]].references, name, place)
            continue
        for path in _files(place):
            if path in taken or IMAGE_NAME.fullmatch(path.name):
                continue
            key = _owner(path, keys)
            if key is None:
                strays.append(path)
                continue
            rater = name if len(references) > 1 else _rater_of(path, found[key].references)
            _add(found[key].references, rater, path)
    _add_images(found, references, images)

    complete = [
        Case(case_id, _site(case_id), case.predictions, case.references, case.image)
        for case_id, case in sorted(found.items())
        if case.predictions and case.references
    ]
    if not complete:
        raise InputError(
            f"{next(iter(predictions.values()))}: no prediction has the name of a reference in "
            f"{', '.join(map(str, references))}; name them alike, or give two files"
        )
    return complete, list(_missing(found, predictions, strays))


@dataclass(frozen=True)
class MaskReader:
    """Reads the masks of a case on the grid of its first mask, and says what is wrong with a file.

    Args:
        label: value that marks gray matter in references, and in predictions with several labels. None takes
            1 in the challenge's masks and everything that is not zero in others, which must then be binary.
        resample_reference: bring references on another grid to the prediction's, nearest neighbour.
    """

    label: int | None = None
    resample_reference: bool = False

    def __post_init__(self) -> None:
        checks.check_fields(self, label=checks.optional(checks.integer(1)), resample_reference=checks.flag)

    def prediction(self, path: Path, references: Sequence[Path]) -> CanonicalMask:
        """A model's mask.

        Raises:
            InputError: the file cannot be read, or is no mask.
        """
        return _read(path, self.label, partners=references, is_reference=False)

    def reference(self, path: Path, like: CanonicalMask) -> CanonicalMask:
        """A rater's mask, on the grid of a prediction.

        Raises:
            InputError: the file cannot be read, is no mask, or lies on another grid.
        """
        label = CHALLENGE_LABEL if self.label is None and MASK_NAME.fullmatch(path.name) else self.label
        mask = _read(path, label, partners=[like.path], is_reference=True)
        difference = mask.difference(like)
        if not difference:
            return CanonicalMask(path, mask.voxels, like.affine, mask.warnings)
        if not self.resample_reference:
            raise InputError(
                f"{path}: not on the grid of {like.path}, {difference}; evaluate on one grid, "
                "or add --resample-reference (nearest neighbour)"
            )
        source = nib.Nifti1Image(mask.voxels.astype(np.uint8), mask.affine)
        moved = resample_from_to(source, (like.voxels.shape, like.affine), order=0)
        return CanonicalMask(path, np.asarray(moved.dataobj) > 0, like.affine, mask.warnings)


@dataclass(frozen=True, eq=False)
class CanonicalMask:
    """A mask in the package's slice orientation, so that nothing depends on how a file is stored.

    Args:
        path: of its file.
        voxels: boolean (right-left, posterior-anterior, inferior-superior).
        affine: 4x4 of these axes, to millimetres in RAS+ world coordinates.
        warnings: what may be wrong with the geometry in its header, one line each.
    """

    path: Path
    voxels: np.ndarray
    affine: np.ndarray
    warnings: tuple[str, ...] = ()

    @property
    def spacing_mm(self) -> np.ndarray:
        """Of the three axes."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def difference(self, like: CanonicalMask) -> str:
        """How its grid differs from another mask's, see `grid_difference`."""
        return grid_difference(self.voxels.shape, self.affine, like.voxels.shape, like.affine)

    def measured(self) -> MeasuredMask:
        """To compare it with others."""
        return MeasuredMask(self.voxels, self.spacing_mm.tolist())


def read_image(path: Path, like: CanonicalMask) -> np.ndarray | None:
    """Intensities (right-left, posterior-anterior, inferior-superior) on a mask's grid, None if on another."""
    volume = read_volume(path, orientation="".join(aff2axcodes(like.affine)))
    slices, _ = volume.read_slices(0, volume.n_slices)
    image = np.moveaxis(slices, 0, 2)
    placed = CanonicalMask(path, image, canonical_grid(volume.voxels.shape, volume.affine)[1])
    return None if placed.difference(like) else image


def _read(path: Path, label: int | None, partners: Sequence[Path], is_reference: bool) -> CanonicalMask:
    orientation = None
    layout = read_layout(path)
    if math.prod(layout.shape[3:]) > 1:
        raise InputError(f"{path}: {shape_text(layout.shape)} voxels; a mask has one frame, keep one")
    if layout.affine is None:
        # A mask without orientation is taken to be stored like its partner.
        affines = [affine for partner in partners if (affine := read_layout(partner).affine) is not None]
        if not affines:
            raise InputError(
                f"{path}: neither it nor its partner has an orientation, qform and sform codes are 0; "
                "mend the headers"
            )
        orientation = "".join(aff2axcodes(affines[0]))
    volume = read_volume(path, orientation=orientation)
    marked = _marked_values(volume)
    _check_values(path, marked, label, is_reference)
    wanted = label if is_reference or len(marked) > 1 else None
    voxels = np.empty((*volume.in_plane_shape, volume.n_slices), bool)
    for start, stop in chunks(volume.n_slices):
        slices, _ = volume.read_slices(start, stop)
        chosen = slices != 0 if wanted is None else slices == wanted
        voxels[:, :, start:stop] = np.moveaxis(chosen, 0, 2)
    affine = canonical_grid(volume.voxels.shape, volume.affine)[1]
    return CanonicalMask(path, voxels, affine, volume.warnings)


def _marked_values(volume: Volume) -> set[float]:
    """Values of the voxels that are not zero, all of a mask's but not of an image's."""
    values: set[float] = set()
    n_not_finite = 0
    for start, stop in chunks(volume.n_slices):
        slices, n_replaced = volume.read_slices(start, stop)
        n_not_finite += n_replaced
        if len(values) < LISTED_VALUES:
            values.update(np.unique(slices[slices != 0]).tolist())
    if n_not_finite:
        raise InputError(
            f"{volume.source}: {n_not_finite} NaN or infinite voxels in a mask; write it again without them"
        )
    return values


def _check_values(path: Path, marked: set[float], label: int | None, is_reference: bool) -> None:
    listed = ", ".join(f"{value:g}" for value in sorted({0.0, *marked})[:LISTED_VALUES])
    more = ", ..." if len(marked) >= LISTED_VALUES else ""
    if any(value != round(value) for value in marked):
        raise InputError(f"{path}: holds {listed}{more}, probabilities and not labels; cut it at 0.5 first")
    if label is None and len(marked) > 1:
        raise InputError(f"{path}: holds {listed}{more}, not a binary mask; choose one with --label")
    if label is not None and marked and label not in marked and (is_reference or len(marked) > 1):
        raise InputError(f"{path}: holds {listed}{more}, no voxel is {label}; choose another --label")


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.exists():
        raise InputError(f"{place}: no such file or folder; check the path")
    found = nifti_files(place)
    if not found:
        raise InputError(f"{place}: no .nii or .nii.gz file in it; check the path")
    return found


def _predictions_in(place: Path) -> list[Path]:
    files = [path for path in _files(place) if not MASK_NAME.fullmatch(path.name)]
    results = [path for path in files if nifti_stem(path).endswith(RESULT_SUFFIX)]
    if not files:
        raise InputError(f"{place}: holds raters' masks only; give the folder of the predictions")
    return results or files


def _key(path: Path) -> str:
    match = CHALLENGE_CASE.match(path.name)
    return match[1] if match else nifti_stem(path).removesuffix(RESULT_SUFFIX)


def _owner(path: Path, keys: Sequence[str]) -> str | None:
    """The longest key that the file's name begins with, at the end of a word."""
    match = CHALLENGE_CASE.match(path.name)
    if match:
        return match[1] if match[1] in keys else None
    stem = nifti_stem(path)
    fitting = [key for key in keys if stem == key or stem.startswith((f"{key}_", f"{key}-"))]
    return max(fitting, key=len, default=None)


def _site(case_id: str) -> str | None:
    match = CHALLENGE_CASE.match(case_id)
    return match[2] if match else None


def _rater_names(references: Sequence[Path]) -> list[str]:
    if not references:
        raise InputError("no reference; give at least one file or folder")
    folders = [place.name for place in references if place.is_dir()]
    if len(set(folders)) == len(references):
        return folders
    return [f"r{number}" for number in range(1, len(references) + 1)]


def _rater_of(path: Path, others: Mapping[str, Path]) -> str:
    match = MASK_NAME.fullmatch(path.name)
    return f"r{int(match[3])}" if match else f"r{len(others) + 1}"


def _add(owners: dict[str, Path], name: str, path: Path) -> None:
    if name in owners:
        raise InputError(f"{path}: belongs to the same case as {owners[name]}; keep one of them")
    owners[name] = path


def _add_images(found: dict[str, _Found], references: Sequence[Path], images: Path | None) -> None:
    keys = list(found)
    if images is not None and images.is_file() and len(keys) == 1:
        found[keys[0]].image = images
        return
    candidates = _files(images) if images is not None else []
    if images is None:
        candidates = [
            path
            for place in references
            if place.is_dir()
            for path in _files(place)
            if IMAGE_NAME.fullmatch(path.name)
        ]
    for path in candidates:
        key = _key(path) if CHALLENGE_CASE.match(path.name) else nifti_stem(path)
        if key in found and not MASK_NAME.fullmatch(path.name):
            found[key].image = path


def _missing(found: Mapping[str, _Found], models: Mapping[str, Path], strays: Sequence[Path]) -> list[str]:
    """What has no partner, one line for each kind."""
    lines = []
    without = [case.predictions for case in found.values() if case.predictions and not case.references]
    paths = [path for predictions in without for path in predictions.values()]
    if paths:
        lines.append(f"no reference for {_listed(paths)}")
    if strays:
        lines.append(f"no prediction for {_listed(strays)}")
    for model in models:
        lacking = [name for name, case in found.items() if case.references and model not in case.predictions]
        if lacking and len(models) > 1:
            lines.append(
                f"model {model} has no prediction for {len(lacking)} cases: {', '.join(sorted(lacking))}"
            )
    most = max((len(case.references) for case in found.values()), default=0)
    fewer = [name for name, case in found.items() if case.predictions and 0 < len(case.references) < most]
    if fewer:
        lines.append(f"fewer than {most} raters for {len(fewer)} cases: {', '.join(sorted(fewer))}")
    return lines


def _listed(paths: Sequence[Path]) -> str:
    return f"{len(paths)} files: {', '.join(path.name for path in sorted(paths))}"

"""How an image is segmented."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.files import is_nifti
from keras_scgm.nifti import axis_codes
from keras_scgm.runtimes import check_choice


@dataclass(frozen=True)
class SegmentationConfig:
    """How an image is segmented; everything that a result depends on besides the image and the weights.

    Args:
        binarize: "native" brings the probabilities back to the image's grid and cuts them there; "paper"
            cuts on the network's grid, brings the mask back and cuts it at 0.5, as the Spinal Cord
            Toolbox does.
        threshold: Probability above which a voxel is gray matter, between 0 and 1; None takes the one in
            the weights' card for the chosen way.
        window: "auto" finds the cord, "center" is the middle of the field of view (paper 3.4.1), or the
            window's centre as (right-left, posterior-anterior) in mm from the image's right posterior
            corner.
        cord: "auto" takes the cord that the network segments beside gray matter, if it does; "ours" takes the cord
            that the default weights segment; "none" leaves the cord out; a path is a mask of the cord on the grid
            of the image.
        mirror: Average with the prediction of the left-right mirrored slice.
        uncertainty_passes: Number of predictions of slightly changed images for the uncertainty map
            (`keras_scgm.uncertainty`), at least 2; 0 makes no map.
        seed: Seed of those changes.
        frame: Which frame of a 4-D image, from 0.
        orientation: Axis codes, such as "LAS", for an image whose header has no orientation.
        keep_probabilities: Keep the probabilities on the image's grid beside the mask.
        runtime: Program that computes the network, one of `keras_scgm.runtimes.NAMES`.
        precision: "float32", or "bfloat16" for less time and probabilities that differ by about 0.002.

    Raises:
        InputError: a value outside its range.
    """

    binarize: Literal["native", "paper"] = "native"
    threshold: float | None = None
    window: Literal["auto", "center"] | tuple[float, float] = "auto"
    cord: str | Path = "auto"
    mirror: bool = False
    uncertainty_passes: int = 0
    seed: int = 0
    frame: int | None = None
    orientation: str | None = None
    keep_probabilities: bool = True
    runtime: str = "auto"
    precision: str = "float32"

    def __post_init__(self) -> None:
        checks.check_fields(
            self,
            binarize=checks.one_of(("native", "paper")),
            threshold=checks.optional(checks.number(above=0, below=1)),
            window=_window,
            cord=_cord,
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


def _cord(name: str, value: Any) -> str | Path:
    if isinstance(value, str) and value in ("auto", "ours", "none"):
        return value
    wanted = "'auto', 'ours', 'none' or the path of a .nii or .nii.gz file"
    if not isinstance(value, (str, Path)) or not is_nifti(Path(value)):
        checks.refuse(name, wanted, value)
    return checks.path(name, value)


def _window(name: str, value: Any) -> str | tuple[float, float]:
    if isinstance(value, str) and value in ("auto", "center"):
        return value
    x_mm, y_mm = checks.several(checks.number(), "'auto', 'center' or two numbers in mm", length=2)(
        name, value
    )
    return x_mm, y_mm

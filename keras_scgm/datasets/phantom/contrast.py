"""Brightness of tissues in the contrasts used for spinal cord gray matter.

T2*: after in vivo 3 T gradient echo images. White over gray matter is 0.85 (free of partial volume) to 0.87
(next to gray matter) in sub-unf01_T2star of github.com/ivadomed/data-testing, its gray matter taken from the
published `challenge` network's mask, median of 16 slices. Fluid over gray matter is 1.2 to 2.0 (medians of four
scans of four scanners, without labels), in single slices up to 2.4. MT, PSIR and ex vivo: after the figures of
Yiannakas et al. 2012, Papinutto et al. 2015 and Perone et al. 2018. "random" draws every tissue by itself, as
SynthSeg does (Billot et al., Med Image Anal 2023), and keeps gray and white matter apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from keras_scgm.datasets.phantom.anatomy import Dials

CONTRASTS = ("t2star", "mt", "psir", "exvivo", "random")

BRIGHTNESS: Mapping[str, tuple[float, float, float, float]] = MappingProxyType(
    {
        "white_matter": (0.86, 0.76, 1.3, 0.5),
        "csf": (1.55, 1.75, 0.2, 1.1),
        "muscle": (0.68, 0.5, 0.95, 0.6),
        "fat": (0.7, 1.1, 1.9, 0.6),
        "septum": (0.85, 0.9, 1.6, 0.7),
        "cortex": (0.18, 0.2, 0.45, 0.3),
        "marrow": (0.28, 0.4, 1.2, 0.4),
        "disc": (0.42, 0.5, 0.7, 0.5),
        "ligament": (0.2, 0.3, 0.55, 0.4),
        "dura": (0.45, 0.6, 0.5, 0.5),
        "epidural": (1.1, 1.1, 1.3, 0.9),
        "artery": (1.2, 1.3, 0.6, 0.6),
        "vein": (1.3, 1.4, 0.6, 0.6),
        "nerve": (0.85, 0.8, 1.1, 0.55),
        "ganglion": (0.8, 0.85, 0.9, 0.7),
        "air": (0.03, 0.03, 0.4, 0.05),
        "skin": (0.8, 0.8, 1.2, 0.5),
        "wall": (0.6, 0.6, 0.8, 0.5),
    }
)
"""Usual brightness of every tissue in the first four contrasts, relative to gray matter."""

RANDOM_BRIGHT = 0.6
"""Share of images of the contrast "random" in which gray matter is brighter than white matter."""


def dark_share(contrast: str) -> float:
    """Share of the images of one of `CONTRASTS` in which gray matter is darker than white matter.

    >>> dark_share("psir"), dark_share("t2star")
    (1.0, 0.0)
    """
    if contrast == "random":
        return 1 - RANDOM_BRIGHT
    return float(BRIGHTNESS["white_matter"][CONTRASTS.index(contrast)] > 1)


def draw_tissues(contrast: str, dials: Dials) -> dict[str, float]:
    """Brightness of every tissue in one image.

    Args:
        contrast: One of `CONTRASTS`.
        dials: Settings of the drawing.

    Returns:
        Values by tissue name, "gray_matter" = 1, none negative.
    """
    if contrast == "random":
        tissues = {name: dials.uniform(0.02, 1.9) for name in BRIGHTNESS}
        apart, darker = dials.log_uniform(1.08, 1.7), dials.chance(RANDOM_BRIGHT)
        tissues["white_matter"] = 1 / apart if darker else apart
        if dials.chance(0.5):
            tissues["air"] = dials.uniform(0.0, 0.1)
        return {**tissues, "gray_matter": 1.0}
    usual = {name: values[CONTRASTS.index(contrast)] for name, values in BRIGHTNESS.items()}
    tissues = {name: value * math.exp(dials.normal(0.0, 0.25)) for name, value in usual.items()}
    tissues["white_matter"] = usual["white_matter"] ** dials.uniform(0.6, 1.9)
    tissues["csf"] = usual["csf"] * math.exp(dials.normal(0.0, 0.22))
    if contrast == "t2star" and dials.chance(0.15):
        tissues["csf"] = dials.uniform(0.75, 1.15)
    if contrast == "exvivo" and dials.chance(0.4):
        tissues["csf"] = dials.uniform(0.02, 0.3)
    if dials.chance(0.35):
        tissues["artery"] *= 0.3
    if dials.chance(0.25):
        tissues["fat"] *= 0.35
        tissues["septum"] *= 0.5
    return {**tissues, "gray_matter": 1.0}

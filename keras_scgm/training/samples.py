"""A picture of the masks of a trained network beside those of the raters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from keras_scgm.datasets import AnnotatedVolume
from keras_scgm.figures import write_figure
from keras_scgm.picture import CONTOUR, HALF_WIDTH_MM, REFERENCE, View, draw_section
from keras_scgm.segmentation import Segmenter
from keras_scgm.slices import evenly_spaced
from keras_scgm.views import centred_squares

VOLUMES, SLICES = 6, 5


def save_samples(path: Path, segmenter: Segmenter, volumes: Sequence[AnnotatedVolume]) -> None:
    """Draws slices of at most six volumes, evenly spaced over those and over their labelled slices, as PNG.

    Args:
        path: File to replace.
        segmenter: Segmenter with the weights to show.
        volumes: Images with masks; the first rater's contour is drawn.
    """
    write_figure(path, draw_samples(segmenter, volumes), dpi=110)


def draw_samples(segmenter: Segmenter, volumes: Sequence[AnnotatedVolume]) -> Figure:
    """The figure of `save_samples`."""
    picks = evenly_spaced(len(volumes), VOLUMES)
    figure = Figure(figsize=(2.2 * SLICES, 2.2 * len(picks) + 0.4), layout="constrained")
    figure.suptitle("red: network, blue: first rater; A is up, R on the left", fontsize=9)
    grid = figure.subplots(len(picks), SLICES, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for line, pick in zip(grid, picks, strict=True):
        annotated = volumes[pick]
        result = segmenter.segment(annotated.image)
        volume, found = result.volume, result.volume.axial_view(result.mask_voxels)
        truth = annotated.read_mask(annotated.masks[0], volume)
        labelled = annotated.slices_of(volume)
        shown = [labelled[place] for place in evenly_spaced(len(labelled), SLICES)]
        spacing_mm = volume.in_plane_spacing_mm
        marked = {k: np.argwhere((np.asarray(found[:, :, k]) > 0) | truth[k]) for k in shown}
        centers, half_width_mm = centred_squares(marked, volume.in_plane_shape, spacing_mm, HALF_WIDTH_MM)
        for axes, k, center in zip(line, shown, centers, strict=False):
            image = volume.read_slices(k, k + 1)[0][0]
            contours = ((truth[k], REFERENCE), (np.asarray(found[:, :, k]) > 0, CONTOUR))
            axes.imshow(draw_section(image, contours, View(center, half_width_mm, spacing_mm)))
            axes.set_title(f"slice {volume.stored_slice_index(k)}", fontsize=7)
        line[0].set_title(f"{annotated.subject_id}, slice {volume.stored_slice_index(shown[0])}", fontsize=7)
    return figure

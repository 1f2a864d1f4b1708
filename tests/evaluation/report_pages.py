"""Masks for reports, and what is in their pages."""

import base64
import re

import nibabel as nib
import numpy as np


def save_mask(path, voxels, spacing_mm=(0.5, 0.5, 3.0)):
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(voxels.astype(np.uint8), np.diag([-spacing_mm[0], *spacing_mm[1:], 1.0])), path)


def tiles(text):
    """(label, width in mm, layer -> points in mm) of each tile."""
    for svg, label in re.findall(
        r"<figure>\s*(<svg.*?</svg>)\s*<figcaption>(.*?)</figcaption>", text, re.DOTALL
    ):
        width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups())
        assert width == height
        contours = {
            int(layer): np.array(re.findall(r"(-?[\d.]+),(-?[\d.]+)", path), float)
            for layer, path in re.findall(r'class="layer-(\d+) gm".*? d="(.*?)"', svg)
        }
        yield label, width, contours


def decoded(values):
    """Numbers as Plotly writes them."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"])
    return np.array(values)

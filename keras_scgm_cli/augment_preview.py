"""`keras-scgm augment-preview`: what an augmentation does to slices and masks."""

from pathlib import Path
from typing import Annotated

import typer

from keras_scgm.errors import InputError
from keras_scgm_cli.data_options import LabelValue
from keras_scgm_cli.say import say, warn
from keras_scgm_cli.stderr import import_keras_scgm


def augment_preview(
    picture: Annotated[Path, typer.Argument(help="PNG file to write.")] = Path("augmentation.png"),
    augmentation: Annotated[
        str, typer.Option(help="Name of a preset, or a JSON file of settings.")
    ] = "paper_challenge",
    image: Annotated[Path | None, typer.Option(help="NIfTI image; a synthetic cord if not given.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Its gray matter mask.")] = None,
    label_value: LabelValue = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same variations.")] = 0,
) -> None:
    """Draw slices beside what the augmentation makes of them.

    \b
    Examples:
      keras-scgm augment-preview preview.png
      keras-scgm augment-preview preview.png --image t2s.nii.gz --mask t2s_gmseg.nii.gz --augmentation paper_exvivo
    """
    if (image is None) != (mask is None):
        raise InputError("--image and --mask go together")
    import_keras_scgm()
    import numpy as np

    from keras_scgm.augmentation import PRESETS, AugmentationConfig, preview
    from keras_scgm.datasets import AnnotatedVolume, load_slices
    from keras_scgm.datasets.phantom import draw_slices
    from keras_scgm.slices import SliceConfig

    if label_value is not None and mask is None:
        raise InputError("--label-value: for a mask only; give it with --mask")
    if augmentation in PRESETS:
        config = PRESETS[augmentation]
    elif Path(augmentation).exists():
        config = AugmentationConfig.read(Path(augmentation))
    else:
        raise InputError(f"augmentation {augmentation!r} is neither a file nor one of {', '.join(PRESETS)}")
    if image is not None and mask is not None:
        annotated = AnnotatedVolume(image, (mask,), subject_id=image.name, label_value=label_value)
        slices = load_slices([annotated], SliceConfig())
        warn(*slices.warnings)
        images, masks = slices.images, slices.masks
    else:
        drawn, fractions, _ = draw_slices(4, seed=seed)
        images = drawn - drawn.mean(axis=(1, 2), keepdims=True)
        images = (images / images.std(axis=(1, 2), keepdims=True))[..., np.newaxis]
        masks = fractions[..., np.newaxis]
    title = f"{augmentation}, seed {seed}"
    preview(images, masks, config, seed, picture, title if image is None else f"{image.name}: {title}")
    say(f"{picture}: {title}")

"""`keras-scgm demo`: segments a synthetic cord and compares the mask with the truth, without a network connection."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from keras_scgm_cli.say import say, warn
from keras_scgm_cli.stderr import import_keras_scgm

SEED = 20171004


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the image and the results.")] = Path(
        "keras_scgm_demo"
    ),
    show: Annotated[bool, typer.Option(help="Open the picture when there is a screen.")] = True,
) -> None:
    """Make a synthetic image of a spinal cord, segment it, and compare the mask with the true one.

    Works offline. Running it again replaces the results.

    \b
    Examples:
      keras-scgm demo
      keras-scgm demo here/ --no-show
    """
    import_keras_scgm()
    import nibabel as nib
    import numpy as np

    from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
    from keras_scgm.dice import dice
    from keras_scgm.files import check_writable, staged
    from keras_scgm.outputs import OutputPaths, write_outputs
    from keras_scgm.pretrained import DEFAULT_WEIGHTS
    from keras_scgm.segmentation import Segmenter

    check_writable(folder)
    subject = draw_subject(PhantomConfig(spacing_mm=0.5, matrix_size=200, n_slices=10), SEED)
    image = folder / "phantom_t2s.nii.gz"
    with staged(folder) as staging:
        nib.save(subject.image, staging / image.name)
        nib.save(subject.mask, staging / "phantom_t2s_truth.nii.gz")
    say(f"made  {image}  (a synthetic cord, 10 slices of 0.5 x 0.5 x 5 mm)")

    result = Segmenter(DEFAULT_WEIGHTS).segment(image)
    paths = OutputPaths.for_input(image)
    write_outputs(result, paths)
    truth = np.asarray(subject.mask.dataobj) > 0
    mask = np.asarray(result.mask.dataobj) > 0
    agreement = dice(mask, truth)
    for title, path in (
        ("mask", paths.mask),
        ("areas", paths.areas),
        ("record", paths.record),
        ("look at", paths.picture),
    ):
        say(f"{title:8}{path}")
    say(
        f"weights {DEFAULT_WEIGHTS!r}: DSC {agreement:.2f} with the true mask, {result.record['seconds']:.1f} s"
    )
    warn(*result.warnings)
    if show and sys.stdout.isatty():
        typer.launch(str(paths.picture))

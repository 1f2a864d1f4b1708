"""The hint after a run: how to open a result in a viewer."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from keras_scgm_cli.say import say


def hint(image: Path, mask: Path, is_mask: bool = True) -> str:
    """One line with the commands that show a result, those of the viewers on this machine, or of all if it has none.

    Args:
        image: The image.
        mask: Its mask of gray matter, or the probabilities.
        is_mask: Whether it is a mask; ITK-SNAP and 3D Slicer take probabilities for an image.
    """
    quoted = shlex.quote(str(image)), shlex.quote(str(mask))
    load = f"slicer.util.loadVolume({str(image)!r}); slicer.util.loadSegmentation({str(mask)!r})"
    commands = {"fsleyes": "fsleyes {} {} -cm red -a 50".format(*quoted)}
    if is_mask:
        commands |= {
            "Slicer": f"Slicer --python-code {shlex.quote(load)}",
            "itksnap": "itksnap -g {} -s {}".format(*quoted),
        }
    installed = [command for program, command in commands.items() if shutil.which(program)]
    return f"to look at it: {'  or  '.join(installed or commands.values())}"


def show_hint(image: Path, mask: Path, is_mask: bool = True) -> None:
    """Print `hint` if a person reads the output."""
    if sys.stdout.isatty():
        say(hint(image, mask, is_mask))

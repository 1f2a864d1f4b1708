"""Commands in the style of the Spinal Cord Toolbox, and what they are here."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ARGUMENT, NOT_NEEDED = "", None
UNKNOWN = "?"
OWN = ("-w", "-h")
"""Short options of the commands here, beside -o, which both have."""
_OF_REPORT = {"-qc": NOT_NEEDED, "-qc-dataset": NOT_NEEDED, "-qc-subject": NOT_NEEDED}
_OF_ALL = {"-r": NOT_NEEDED, "-v": NOT_NEEDED}


@dataclass(frozen=True)
class Program:
    """A program of the toolbox.

    Args:
        command: The command here.
        options: Option of the program -> options here, of which the last takes its value, `ARGUMENT` for an argument
            without option, or `NOT_NEEDED`.
    """

    command: str
    options: Mapping[str, str | None]


_CORD = Program(
    "segment",
    {"-i": ARGUMENT, "-o": "--output", "-c": NOT_NEEDED, "-thr": NOT_NEEDED, **_OF_REPORT, **_OF_ALL},
)
_OVERLAP = Program("evaluate", {"-i": ARGUMENT, "-d": ARGUMENT, **_OF_ALL})

PROGRAMS = {
    "sct_deepseg_gm": Program(
        "segment",
        {
            "-i": ARGUMENT,
            "-o": "--output",
            "-m": "--weights",
            "-thr": "--binarize paper --threshold",
            "-t": "--mirror",
            **_OF_REPORT,
            **_OF_ALL,
        },
    ),
    "sct_deepseg graymatter": Program(
        "segment", {"-i": ARGUMENT, "-o": "--output", "-thr": "--threshold", **_OF_REPORT, **_OF_ALL}
    ),
    "sct_deepseg spinalcord": _CORD,
    "sct_deepseg_sc": _CORD,
    "sct_propseg": _CORD,
    "sct_process_segmentation": Program(
        "areas",
        {
            "-i": ARGUMENT,
            "-o": "--output",
            "-vertfile": "--levels",
            "-discfile": "--discs",
            "-vert": "--level-range",
            "-z": "--slices",
            "-angle-corr-centerline": "--centreline",
            "-perlevel": NOT_NEEDED,
            "-perslice": NOT_NEEDED,
            **_OF_ALL,
        },
    ),
    "sct_dice_coefficient": _OVERLAP,
    "sct_compute_hausdorff_distance": _OVERLAP,
}
"""By name, with the task of those that have several; the first one of a command here is that whose options are
understood there."""


def counterpart(arguments: Sequence[str]) -> str | None:
    """One line that says how a command in the toolbox's style is given here; None if it is not in that style.

    Args:
        arguments: What follows `keras-scgm`.

    >>> counterpart(["segment", "-i", "t2s.nii.gz", "-m", "large"])
    '-i is an option of sct_deepseg_gm; here: keras-scgm segment t2s.nii.gz --weights large'
    >>> counterpart(["segment", "t2s.nii.gz", "--weights", "large"])
    """
    if not arguments:
        return None
    command, *others = arguments
    if command.startswith("sct_"):
        has_tasks = any(name.startswith(f"{command} ") for name in PROGRAMS)
        if has_tasks and others and not others[0].startswith("-"):
            command, others = f"{command} {others[0]}", others[1:]
        if command not in PROGRAMS:
            return (
                f"{command} is a program of the Spinal Cord Toolbox that no single command replaces; see keras-scgm "
                "--help, and From the Spinal Cord Toolbox in the documentation"
            )
        return f"{command} is a program of the Spinal Cord Toolbox; here: {_translated(PROGRAMS[command], others)}"
    name = next((name for name, program in PROGRAMS.items() if program.command == command), None)
    if name is None:
        return None
    foreign = [option for option in others if option != "-o" and option in PROGRAMS[name].options]
    if not foreign:
        return None
    return f"{foreign[0]} is an option of {name}; here: {_translated(PROGRAMS[name], others)}"


def _translated(program: Program, arguments: Sequence[str]) -> str:
    words, left_out, rest = ["keras-scgm", program.command], [], list(arguments)
    while rest:
        word = rest.pop(0)
        is_of_toolbox = word.startswith("-") and not word.startswith("--") and word not in OWN
        if not is_of_toolbox:
            words.append(word)
            continue
        option = program.options.get(word, UNKNOWN)
        value = [rest.pop(0)] if rest and not rest[0].startswith("-") else []
        if option is UNKNOWN:
            left_out += [word, *value]
        elif option is NOT_NEEDED:
            continue
        elif option == "--mirror":
            words.append(option)
        elif option.endswith("--threshold") and value in (["0"], ["0.0"]):
            words.append("--soft")
        else:
            words += [*option.split(), *value]
    return shlex.join(words) + (f" (left out: {shlex.join(left_out)})" if left_out else "")

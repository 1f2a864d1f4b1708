"""Names of NIfTI files, the search of folders, hashes, texts, and writing of all files of a result or none."""

from __future__ import annotations

import csv
import errno
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from fnmatch import fnmatchcase
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, TypeVar

from keras_scgm.errors import InputError, one_line

T = TypeVar("T")

_STAGING = ".keras_scgm_"
"""Beginning of the names of staging folders."""

RESULT_SUFFIX = "_gmseg"
"""End of the names of gray matter that this package writes, before .nii.gz."""
WHITE_MATTER_SUFFIX, CORD_SUFFIX = "_wmseg", "_seg"
"""End of the names of white matter and of the cord beside it, as the Spinal Cord Toolbox has them."""

_NIFTI_ENDING = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


def is_nifti(path: Path) -> bool:
    """Whether a name ends in .nii or .nii.gz, in lower or upper case."""
    return _NIFTI_ENDING.search(path.name) is not None


def nifti_stem(path: Path) -> str:
    """File name without .nii or .nii.gz, in lower or upper case.

    >>> nifti_stem(Path("sub-01_T2starw.nii.gz")), nifti_stem(Path("UPPER.NII.GZ"))
    ('sub-01_T2starw', 'UPPER')
    """
    return _NIFTI_ENDING.sub("", path.name)


def with_ending(path: Path, change: Callable[[str], str]) -> Path:
    """The path with its .nii or .nii.gz changed, such as by `str.lower`."""
    stem = nifti_stem(path)
    return path.with_name(stem + change(path.name[len(stem) :])) if stem else path


def fits(path: Path, pattern: str) -> bool:
    """Whether a relative path, or the end of it, fits a shell pattern; the case of .nii and .nii.gz does not count.

    >>> fits(Path("sub-01/anat/A_T2S.NII.GZ"), "*_T2S.nii.gz"), fits(Path("sub-01/anat/a.nii"), "sub-*/a.nii")
    (True, True)
    """
    path, pattern = with_ending(path, str.lower), str(with_ending(Path(pattern), str.lower))
    return path.match(pattern) or fnmatchcase(path.as_posix(), pattern)


def place_name(path: Path) -> str:
    """What a file or a folder is called, without .nii or .nii.gz; `.` has a name, and a link its own."""
    return nifti_stem(Path(os.path.abspath(path)))


def is_visible(name: str) -> bool:
    """Whether a file or folder is not hidden, as `.git` with the objects of git-annex is."""
    return not name.startswith(".")


def nifti_files(folder: Path, is_searched: Callable[[str], bool] = is_visible) -> list[Path]:
    """The NIfTI files of a folder and of those below it, by path.

    Hidden files are left out, and links to folders are not followed. A link to a file counts as a file, whether or not
    its target exists.

    Args:
        folder: Folder to search, hidden or not.
        is_searched: Whether a folder below it is searched, by its name.
    """
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = filter(is_searched, folders)
        found += [Path(parent, name) for name in names if is_visible(name) and is_nifti(Path(name))]
    return sorted(found)


def once_per_version(read: Callable[[Path], T]) -> Callable[[Path], T]:
    """Keep what a function reads of a file, until the file changes."""

    @lru_cache
    def kept(path: Path, device: int, inode: int, size: int, changed_ns: int) -> T:
        return read(path)

    @wraps(read)
    def unchanged(path: Path) -> T:
        state = path.stat()
        return kept(path, state.st_dev, state.st_ino, state.st_size, state.st_ctime_ns)

    return unchanged


@once_per_version
def sha256_of(path: Path) -> str:
    """The SHA-256 hash of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_state(file: Path | int) -> tuple[int, int, int] | None:
    """What tells of a file, by path or descriptor, that it was changed or replaced; None if it cannot be found."""
    try:
        state = os.stat(file)
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


def changed_error(path: str | Path) -> InputError:
    """The error of a file that changes while it is read."""
    return InputError(f"{path}: changed while it was read; start again once it is complete")


@contextmanager
def unchanged(*paths: Path) -> Iterator[None]:
    """Refuses the result of a computation during which one of its files was changed, replaced or removed.

    Raises:
        InputError: A file is another one at the end.
    """
    before = [file_state(path) for path in paths]

    def check(cause: OSError | None = None) -> None:
        for path, state in zip(paths, before, strict=True):
            if file_state(path) != state:
                raise changed_error(path) from cause

    try:
        yield
    except OSError as error:
        check(error)
        raise
    check()


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        InputError: It cannot be read, is not in UTF-8, or is a named pipe.
    """
    # Opening one waits for a writer, which that of a shell's <(...) has; there it is a link.
    if path.is_fifo() and not path.is_symlink():
        raise InputError(f"{path}: a named pipe; give a file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text in UTF-8; save it as UTF-8") from error


def check_folder(folder: Path) -> None:
    """Refuse a folder of data that does not exist.

    Raises:
        InputError: no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: {'not a' if folder.exists() else 'no such'} folder; check the path")


def check_inputs_stay(inputs: Iterable[Path | None], written: Iterable[Path]) -> None:
    """Refuse to write files in the place of inputs, by whatever name or link.

    Args:
        inputs: Files that a command reads; None stands for one that was not given.
        written: Files that it may replace or remove.

    Raises:
        InputError: An input is among them.
    """
    places = set(map(_place, written))
    for path in filter(None, inputs):
        if _place(path) in places:
            raise InputError(
                f"{path}: the result would take the place of this input; give the output another name"
            )


def _place(path: Path) -> tuple[int, int] | str:
    """What two names of one file have in common, or the path without links of its folder if there is none yet."""
    try:
        state = path.stat()
    except OSError:
        return os.path.join(os.path.realpath(path.parent), path.name)
    return state.st_dev, state.st_ino


def check_writable(folder: Path) -> None:
    """Check before a computation whether its result can be written.

    Raises:
        InputError: Nothing can be written to the folder, or to the one in which it would be created.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise cannot_write(folder, error) from error


def cannot_write(folder: Path, error: OSError) -> InputError:
    """The error of a folder in which nothing can be written."""
    return InputError(f"{folder}: cannot write there ({error.strerror}); choose another folder")


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Makes a folder if it is missing; after an error the new folders that are empty are removed."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with suppress(OSError):
            for path in new:
                path.rmdir()
        raise


@contextmanager
def staging_folder(folder: Path, advice: str = "free space or change folder") -> Iterator[Path]:
    """A hidden temporary folder inside the target folder; it is removed at the end.

    Args:
        folder: Target folder, created if missing, and removed again after an error if nothing else is in it.
        advice: Advice in the message if it cannot be written to.

    Raises:
        InputError: Nothing can be written there, or a name is to be written that is not UTF-8.
    """
    # Named before it is made, so that an interruption between the two does not leave it.
    staging = folder / f"{_STAGING}{secrets.token_hex(8)}"
    try:
        with _made(folder), _removed(staging):
            staging.mkdir(mode=0o700)
            yield staging
    except OSError as error:
        if any(part.startswith(_STAGING) for part in folder.parts):
            # Inside another staging folder, whose own target is the one to name.
            raise
        reason = error.strerror or one_line(error)
        if error.errno == errno.ENAMETOOLONG:
            advice = "use shorter names"
        raise InputError(f"{folder}: writing failed ({reason}); {advice}") from error
    except UnicodeEncodeError as error:
        name, *_ = re.findall(r"[^\s,]*[\ud800-\udfff][^\s,]*", error.object)
        raise InputError(f"{folder}: writing failed ({name} is not UTF-8); rename the file") from error


@contextmanager
def _removed(folder: Path) -> Iterator[None]:
    """Removes a folder at the end, whatever happens."""
    try:
        yield
    finally:
        try:
            shutil.rmtree(folder, ignore_errors=True)
        except KeyboardInterrupt:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def remove_staging(folder: Path) -> None:
    """Remove the staging folders that a killed run has left in a folder."""
    for staging in folder.glob(f"{_STAGING}*"):
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def replaced(path: Path, advice: str = "free space or change folder") -> Iterator[Path]:
    """A temporary path whose file takes the place of `path` at the end; at every moment one of them is there.

    Args:
        path: File to replace; its folder is created if missing.
        advice: As in `staging_folder`.

    Raises:
        InputError: It cannot be written; `path` is unchanged.
    """
    with staging_folder(path.parent, advice) as staging:
        yield staging / path.name
        os.replace(staging / path.name, path)


def write_text(path: Path, text: str) -> None:
    """Replace a file by a text in UTF-8, as `replaced` does."""
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Replace a file by a CSV table, as `replaced` does.

    Args:
        path: File to replace.
        rows: Values by the names of their columns; NaN, and what a row lacks, is an empty cell.
        columns: Names of all columns; those of the rows in the order of first appearance by default.
    """
    names = columns or list(dict.fromkeys(name for row in rows for name in row))
    with replaced(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(
            {name: "" if value != value else value for name, value in row.items()} for row in rows
        )


@contextmanager
def temporary_space() -> Iterator[None]:
    """Where a temporary file is made or filled: errors of its folder say what to do.

    Raises:
        InputError: There is no such folder that can be written to, or no room in it.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"no room for a temporary file ({error.strerror or one_line(error)}); free space, or set TMPDIR to a "
            "folder with more"
        ) from error


def csv_cell(value: Any, form: str) -> str:
    """A value in a format such as ".3f"; NaN and None are empty cells."""
    return "" if value is None or value != value else format(value, form)


@contextmanager
def staged(folder: Path, former: Iterable[str] = ()) -> Iterator[Path]:
    """A staging folder whose files go into `folder` at the end: all of them, or none.

    Args:
        folder: Target folder, created if missing. Files of the same names are replaced, and so are links.
        former: Names of the files of an earlier result, from the folder; those that the new one lacks are removed.

    Raises:
        InputError: A file cannot be written or replaced; `folder` is unchanged.
    """
    with staging_folder(folder) as staging, ExitStack() as made:
        yield staging
        # A record (JSON) is removed first and written last, so that it always describes the files beside it.
        new = sorted(files_below(staging), key=lambda name: (name.endswith(".json"), name))
        old = [name for name in dict.fromkeys([*former, *new]) if os.path.lexists(folder / name)]
        aside = staging / ".former"
        for name in {*old, *new}:
            for target in (aside, folder):
                made.enter_context(_made((target / name).parent))
        aside.mkdir(exist_ok=True)
        _move_all(
            [(folder, aside, name) for name in reversed(old)] + [(staging, folder, name) for name in new]
        )


def files_below(folder: Path) -> list[str]:
    """Paths of all files below a folder, from it and with slashes, in order."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def written_once(folder: Path, write: Callable[[Path], Any]) -> Path:
    """A folder that exists only whole: it is written under another name and moved, or left as it is if it exists.

    Args:
        folder: Folder to write.
        write: Function that writes the folder that it is given.

    Returns:
        The folder.
    """
    if not folder.exists():
        with staging_folder(folder.parent) as staging:
            write(staging / folder.name)
            # Another process may have been faster.
            if not folder.exists():
                os.rename(staging / folder.name, folder)
    return folder


def _move_all(moves: Sequence[tuple[Path, Path, str]]) -> None:
    """Move files (from, to, name), or none of them."""
    for number, (source, target, name) in enumerate(moves):
        try:
            if (source / name).is_dir() and not (source / name).is_symlink():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            os.replace(source / name, target / name)
        except BaseException as error:
            for moved_from, moved_to, moved in reversed(moves[:number]):
                os.replace(moved_to / moved, moved_from / moved)
            if isinstance(error, OSError):
                raise InputError(
                    f"{moves[-1][1] / name}: cannot be replaced ({error.strerror}); move it away, or choose another "
                    "folder"
                ) from error
            raise

"""`scgm-client`: segments images through a server, and shows the status of the server."""

from __future__ import annotations

import argparse
import io
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from keras_scgm_client import __version__, logs
from keras_scgm_client.client import MAX_UPLOAD_BYTES, Client, Outcome
from keras_scgm_client.dicom import command as dicom_command
from keras_scgm_client.errors import ClientError, ImageError, NotAnImageError
from keras_scgm_client.images import find_images
from keras_scgm_client.metrics import Metrics
from keras_scgm_client.outputs import OutputPaths, Tissues


def main(arguments: list[str] | None = None) -> None:
    """Run the command.

    Exit code: 0 for success, 2 if anything failed, 3 for a verdict of `--fail-on`, 128 + n after signal n.
    """
    for stream in (sys.stdout, sys.stderr):
        # Names of files are bytes, and may have no characters.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    # Connection errors are reported in one line, without the log of the gRPC library.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        # Nothing interrupts what cleans up after the first one.
        if not isinstance(sys.exception(), KeyboardInterrupt):
            raise KeyboardInterrupt

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        # Windows has no SIGHUP; nohup ignores it.
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)
    logs.configure(options.log_format)
    try:
        sys.exit(options.run(options))
    except ClientError as error:
        logs.say(logging.ERROR, str(error), request_id=error.request_id)
        sys.exit(2)
    except KeyboardInterrupt:
        logs.say(
            logging.WARNING, "interrupted; finished images are kept, run the same command again to continue"
        )
        # Threads may still wait for the server; they write no files.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + received[0])


def _parser() -> argparse.ArgumentParser:
    server = argparse.ArgumentParser(add_help=False)
    default = os.environ.get("SCGM_SERVER", "http://localhost:8501")
    server.add_argument(
        "--server", default=default, metavar="URL", help="http, https, grpc or grpcs (default %(default)s)"
    )
    server.add_argument("--model", default="gm_nifti", help="name of the model (default %(default)s)")
    server.add_argument("--label", default="", help="version label, such as canary")
    server.add_argument(
        "--token-file",
        type=Path,
        default=os.environ.get("SCGM_TOKEN_FILE"),
        metavar="FILE",
        help="bearer token; sent over TLS or to this machine only",
    )
    server.add_argument("--ca", type=Path, metavar="FILE", help="certificate authority to trust")
    server.add_argument("--cert", type=Path, metavar="FILE", help="client certificate")
    server.add_argument("--key", type=Path, metavar="FILE", help="key of the client certificate")
    server.add_argument(
        "--timeout",
        type=_positive,
        default=120.0,
        metavar="S",
        help="time limit of one request (default %(default)g s)",
    )
    server.add_argument(
        "--wait",
        type=_not_negative,
        default=0.0,
        metavar="S",
        help="time to wait for a server that is not running yet (default: an error at once)",
    )
    server.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="json: one object per line, on standard error",
    )

    parser = argparse.ArgumentParser(
        prog="scgm-client", description="Gray matter masks from a TensorFlow Serving server."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    segment = commands.add_parser("segment", parents=[server], help="images to masks")
    segment.add_argument("inputs", nargs="+", type=Path, help=".nii or .nii.gz files, or folders of them")
    segment.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="folder of the results (default: beside the images)"
    )
    segment.add_argument(
        "--jobs",
        type=_count,
        default=4,
        metavar="N",
        help="images that are processed at a time (default %(default)s)",
    )
    segment.add_argument("--soft", action="store_true", help="probabilities in place of the masks")
    segment.add_argument(
        "--tissues",
        choices=("gm", "all"),
        default="all",
        help="all: white matter and cord beside the gray matter, if the model segments the cord (default %(default)s)",
    )
    segment.add_argument(
        "--picture",
        action=argparse.BooleanOptionalAction,
        help="draw NAME_gmseg_qc.png (default: if the extra is installed)",
    )
    segment.add_argument("--force", action="store_true", help="replace existing results")
    segment.add_argument(
        "--fail-on", choices=("review", "fail"), help="exit code 3 for this verdict or a worse one"
    )
    segment.add_argument(
        "--deadline",
        type=_positive,
        default=600.0,
        metavar="S",
        help="time limit of one image with all retries (default %(default)g s)",
    )
    segment.add_argument(
        "--max-mb",
        type=_positive,
        default=MAX_UPLOAD_BYTES / 1e6,
        help="larger files are not sent (default %(default)g)",
    )
    segment.add_argument(
        "--metrics-file",
        type=Path,
        metavar="FILE",
        help="Prometheus metrics of all runs with this file, for the node exporter's textfile collector",
    )
    segment.set_defaults(run=_segment)
    status = commands.add_parser("status", parents=[server], help="versions on the server")
    status.set_defaults(run=_status)
    dicom_command.add_parser(commands, [server], _client)
    return parser


def _segment(options: argparse.Namespace) -> int:
    images = _expand(options.inputs, options.output)
    secrets = [Path(file) for file in (options.token_file, options.ca, options.cert, options.key) if file]
    _refuse_collisions(images, secrets, options.tissues, options.metrics_file)
    failed = skipped = 0
    verdicts = set()
    metrics = Metrics() if options.metrics_file else None
    if metrics:
        metrics.go_on_from(options.metrics_file)
        # So that Prometheus sees the counters before they increase.
        metrics.write(options.metrics_file)
    try:
        with _client(
            options,
            soft=options.soft,
            tissues=options.tissues,
            picture=options.picture,
            deadline=options.deadline,
            connections=options.jobs,
            max_upload_bytes=int(options.max_mb * 1e6),
            on_retry=_log_once(),
            metrics=metrics,
        ) as client:
            jobs = client.segment_all(images, jobs=options.jobs, force=options.force)
            for n_done, outcome in enumerate(jobs, 1):
                is_left_out = (
                    isinstance(outcome.error, NotAnImageError) and outcome.image not in options.inputs
                )
                failed += outcome.error is not None and not is_left_out
                skipped += outcome.skipped or is_left_out
                verdicts.add(outcome.verdict)
                _report(outcome, f"[{n_done}/{len(images)}]", is_left_out)
    finally:
        if metrics:
            metrics.write(options.metrics_file)
    counts = {"segmented": len(images) - failed - skipped, "skipped": skipped, "failed": failed}
    logs.say(logging.INFO, ", ".join(f"{number} {what}" for what, number in counts.items()), **counts)
    if failed:
        return 2
    bad = {"review": {"review", "fail"}, "fail": {"fail"}, None: set[str]()}[options.fail_on]
    return 3 if verdicts & bad else 0


def _report(outcome: Outcome, place: str, is_left_out: bool) -> None:
    said = {"image": str(outcome.image), "request_id": outcome.request_id}
    if is_left_out:
        reason = str(outcome.error).partition(";")[0]
        logs.say(logging.INFO, f"{place} {reason}; skipped", **said, skipped=True)
    elif outcome.error is not None:
        named = isinstance(outcome.error, ImageError)
        logs.say(logging.ERROR, str(outcome.error) if named else f"{outcome.image}: {outcome.error}", **said)
    else:
        done = f"{place} {outcome.mask}{' (finished before, skipped)' if outcome.skipped else ''}"
        logs.say(
            logging.INFO,
            done,
            **said,
            mask=str(outcome.mask),
            verdict=outcome.verdict,
            skipped=outcome.skipped,
        )
    for warning in outcome.warnings:
        logs.say(logging.WARNING, f"{outcome.image}: {warning}", image=str(outcome.image))


def _status(options: argparse.Namespace) -> int:
    with _client(options, deadline=options.timeout) as client:
        versions = client.status()
    for version in versions:
        line = f"{options.model} version {version.version}: {version.state} {version.message}".rstrip()
        logs.say(logging.INFO, line, version=version.version, state=version.state)
    return 0 if any(version.state == "AVAILABLE" for version in versions) else 2


def _client(options: argparse.Namespace, **settings: object) -> Client:
    token = None
    if options.token_file:
        try:
            token = Path(options.token_file).read_text(encoding="utf-8-sig").strip()
        except OSError as error:
            reason = f"cannot be read ({error.strerror}); check --token-file"
            raise ClientError(f"{options.token_file}: {reason}") from error
        except UnicodeDecodeError as error:
            raise ClientError(f"{options.token_file}: not a text in UTF-8; save it as UTF-8") from error
    return Client(
        options.server,
        token=token,
        ca=options.ca,
        certificate=options.cert,
        key=options.key,
        model=options.model,
        label=options.label,
        timeout=options.timeout,
        wait=options.wait,
        **settings,  # type: ignore[arg-type]
    )


def _log_once() -> Callable[[str], None]:
    """Function that logs each message only once."""
    logged: set[str] = set()

    def log(line: str) -> None:
        if line not in logged:
            logged.add(line)
            logs.say(logging.WARNING, line)

    return log


def _expand(inputs: list[Path], output: Path | None) -> list[tuple[Path, Path | None]]:
    """Images with the folders of their results; --output repeats the structure of an input folder.

    A file that is named and found, or named twice, is one image; links are files of their own.
    """
    images: list[tuple[Path, Path | None]] = []
    for path in inputs:
        if not path.is_dir():
            images.append((path, output))
            continue
        found, notes = find_images(path)
        for note in notes:
            logs.say(logging.INFO, note)
        images.extend((file, output and output / file.parent.relative_to(path)) for file in found)
    if not images:
        raise ClientError(f"{inputs[0]}: holds no .nii or .nii.gz image; check the path")
    once: dict[Path, tuple[Path, Path | None]] = {}
    for image, folder in images:
        once.setdefault(Path(os.path.realpath(image.parent), image.name), (image, folder))
    return [*once.values()]


def _refuse_collisions(
    images: list[tuple[Path, Path | None]],
    secrets: list[Path],
    tissues: Tissues,
    metrics_file: Path | None,
) -> None:
    """Refuse results that would replace each other, or an input."""
    owners: dict[Path, Path] = {}
    inputs = {_place(path) for path in (*secrets, *(image for image, _ in images))}
    outputs = [metrics_file] if metrics_file else []
    for image, folder in images:
        paths = OutputPaths.for_input(image, folder)
        if owners.setdefault(paths.mask, image) != image:
            raise ClientError(
                f"{owners[paths.mask]} and {image} would both become {paths.mask}; segment them one by one"
            )
        outputs += [*paths.own, *(paths.tissues if tissues == "all" else ())]
    for path in outputs:
        if _place(path) in inputs:
            raise ClientError(
                f"{path}: the result would take the place of this input; give the output another name"
            )


def _place(path: Path) -> tuple[int, int] | str:
    """What two names of one file have in common, or the path without links of its folder if there is none yet."""
    try:
        state = path.stat()
    except OSError:
        return os.path.join(os.path.realpath(path.parent), path.name)
    return state.st_dev, state.st_ino


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be over 0")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 64:
        raise argparse.ArgumentTypeError("must be 1 to 64")
    return value

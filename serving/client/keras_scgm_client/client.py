"""Segments one image or many through a server, with retries until a deadline."""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    wait_exponential,
    wait_random,
)

from keras_scgm_client.answer import Answer, Kind, max_answer_bytes
from keras_scgm_client.errors import (
    ClientError,
    ImageError,
    ServerUnavailable,
    ServerUnreachable,
    SettingsError,
)
from keras_scgm_client.images import as_sent, read_image
from keras_scgm_client.metrics import Metrics
from keras_scgm_client.outputs import (
    OutputPaths,
    Tissues,
    check_writable,
    differences,
    edited_masks,
    finished_record,
)
from keras_scgm_client.picture import can_draw
from keras_scgm_client.results import Result
from keras_scgm_client.tracing import request_span
from keras_scgm_client.transport import SHORTEST_TRY_SECONDS, Access, Model, Transport, VersionStatus

MAX_UPLOAD_BYTES = 100_000_000
"""The request limit of the reverse proxy in `serving/`, less the third that base64 adds, rounded down."""

LONGEST_PAUSE_SECONDS = 10.0
VERSION_UNKNOWN = (
    "finished before, perhaps by another version of the model, since the record or the server does not state it; "
    "replace it with --force if the model has changed"
)

_Reply = TypeVar("_Reply")


@dataclass(frozen=True)
class Outcome:
    """Outcome of one image of many: a mask or an error.

    Args:
        image: Input file.
        mask: File that was written now or by an earlier run.
        warnings: Possible problems of the result.
        error: Reason why there is no mask.
        skipped: Whether the result existed before.
        verdict: "pass", "review" or "fail"; None if the server gives none.
        request_id: Identifier of the request in the logs of proxy and server; None if nothing was sent.
    """

    image: Path
    mask: Path | None = None
    warnings: tuple[str, ...] = ()
    error: ClientError | None = None
    skipped: bool = False
    verdict: str | None = None
    request_id: str | None = None


class Client:
    """A connection to a server; safe to use from several threads.

    Args:
        url: `http://host:8501`, or `https`, `grpc` and `grpcs`.
        token: Bearer token, which is sent over TLS or to this machine only.
        ca: File of the certificate authority to trust instead of the system's.
        certificate: File of the client certificate.
        key: File of the certificate's key.
        model: Name of the served model.
        label: Version label, such as "canary"; the latest version if empty.
        soft: Whether to request probabilities in place of masks.
        tissues: "gm" writes the gray matter alone, "all" white matter and cord, too, if the model segments the cord.
        picture: Whether to draw a picture of each result; None draws it if the extra `picture` is installed.
        timeout: Time limit of one request, s.
        deadline: Time limit of one image with all its retries, s.
        wait: Time to wait for a server that has not been reached yet, s. The client waits until the deadline for a
            server that was reached before.
        connections: Number of simultaneous requests; further ones wait, at most until their deadline.
        max_upload_bytes: Size of the largest file that is sent, bytes.
        on_retry: Function that is called with a line of text before each retry.
        metrics: Counters of requests and verdicts.

    Raises:
        SettingsError: The address or a TLS file cannot be used, or an extra is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca: str | Path | None = None,
        certificate: str | Path | None = None,
        key: str | Path | None = None,
        model: str = "gm_nifti",
        label: str = "",
        soft: bool = False,
        tissues: Tissues = "all",
        picture: bool | None = None,
        timeout: float = 120.0,
        deadline: float = 600.0,
        wait: float = 0.0,
        connections: int = 4,
        max_upload_bytes: int = MAX_UPLOAD_BYTES,
        on_retry: Callable[[str], None] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        ca, certificate, key = (Path(path) if path else None for path in (ca, certificate, key))
        self.access = Access(url, token, ca, certificate, key, connections)
        self.model = Model(model, label, "soft" if soft else "serving_default")
        self.kind: Kind = "probabilities" if soft else "mask"
        if picture and not can_draw():
            raise SettingsError(
                "pictures need keras-scgm, which is not installed; pip install 'keras-scgm-client[picture]'"
            )
        self.tissues = tissues
        self.picture = picture
        self.timeout = timeout
        self.deadline = deadline
        self.wait = wait
        self.max_upload_bytes = max_upload_bytes
        self.metrics = metrics
        self._on_retry = on_retry
        self._was_reached = False
        self._closed = threading.Event()
        self._free_connections = threading.Semaphore(connections)
        self._transport = _connect(self.access, self.model)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; current requests are not repeated."""
        self._closed.set()
        self._transport.close()

    def status(self) -> list[VersionStatus]:
        """The versions of the model on the server, latest first.

        Raises:
            ServerError: The server did not answer before the deadline, or has no such model.
        """
        return self._until_deadline(self._transport.status)

    def segment(self, image: str | Path, folder: str | Path | None = None) -> Path:
        """Segment one image and write its masks, areas, picture and record.

        Args:
            image: File in .nii or .nii.gz format.
            folder: Folder of the results; that of the image if None. Existing files are replaced, but not masks that
                were edited by hand.

        Returns:
            Path of the gray matter mask, `NAME_gmseg.nii.gz`.

        Raises:
            ImageError: The client or the server refuses the image, a mask was edited by hand, or the results cannot be
                written.
            ServerError: The server gave no mask before the deadline.
        """
        paths = OutputPaths.for_input(Path(image), Path(folder) if folder else None)
        self._write(self._segment(Path(image), paths))
        return paths.mask

    def segment_all(
        self,
        images: Iterable[str | Path | tuple[str | Path, str | Path | None]],
        *,
        jobs: int = 4,
        force: bool = False,
    ) -> Iterator[Outcome]:
        """Segment many images, several at a time.

        Args:
            images: Files, or pairs of a file and the folder of its results.
            jobs: Number of images that are processed at a time, which also bounds the memory.
            force: Whether to replace existing results. Otherwise images are skipped if their results were made with the
                same settings, and are errors if not.

        Yields:
            Outcome of each image, in order of completion.

        Raises:
            SettingsError: A setting is wrong for all images; results that were written are kept.
        """
        queue = (entry if isinstance(entry, tuple) else (entry, None) for entry in images)
        pool = ThreadPoolExecutor(jobs)
        running: set[Future[Outcome | Result]] = set()
        try:
            while True:
                for image, folder in islice(queue, jobs - len(running)):
                    paths = OutputPaths.for_input(Path(image), Path(folder) if folder else None)
                    running.add(pool.submit(self._process, Path(image), paths, force))
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield self._written(future.result())
        finally:
            # A caller that stops early must not wait for the server; only this thread writes files.
            pool.shutdown(wait=False, cancel_futures=True)

    def _process(self, image: Path, paths: OutputPaths, force: bool) -> Outcome | Result:
        try:
            existing = [path for path in paths.own if os.path.lexists(path)]
            if existing and not force:
                return self._skipped(image, paths, existing[0])
            result = self._segment(image, paths)
            if not force:
                result.check_paths()
            return result
        except ClientError as error:
            is_for_all = isinstance(error, SettingsError) or (
                isinstance(error, ServerUnreachable) and not self._was_reached
            )
            if is_for_all:
                raise
            return Outcome(image, error=error, request_id=error.request_id)

    def _skipped(self, image: Path, paths: OutputPaths, existing: Path) -> Outcome:
        like = {"input_sha256": _sha256_of(image), **self._result_settings}
        record, changed = finished_record(paths, like), differences(paths, like)
        if self.picture and record and paths.picture.name not in record["files"]:
            changed.append("picture")
        made_by = record.get("version")
        served = not changed and made_by and self._until_deadline(self._transport.version)
        if served and made_by != served:
            changed.append("version")
        if changed or not record:
            other = f" (other {', '.join(changed)})" if changed else ""
            raise ImageError(
                f"{existing}: exists and was made in another way{other}; replace it with --force"
            )
        warnings = [] if served else [VERSION_UNKNOWN]
        warnings += [
            f"{path.name} was edited by hand, and is not measured here; keras-scgm areas does it"
            for path in edited_masks(paths)
        ]
        verdict = record.get("quality", {}).get("verdict")
        return Outcome(image, paths.mask, tuple(warnings), skipped=True, verdict=verdict)

    def _written(self, finished: Outcome | Result) -> Outcome:
        if isinstance(finished, Outcome):
            return finished
        image, request_id = finished.image, finished.record["request_id"]
        try:
            self._write(finished)
        except ImageError as error:
            return Outcome(image, error=error, request_id=request_id)
        mask, warnings = finished.paths.mask, finished.answer.warnings
        return Outcome(image, mask, warnings, verdict=finished.verdict, request_id=request_id)

    def _write(self, result: Result) -> None:
        result.write()
        if self.metrics and result.verdict:
            self.metrics.verdict(result.verdict)

    @property
    def _result_settings(self) -> dict[str, Any]:
        """Settings on which a result depends besides the image, as far as they are known before the answer."""
        of_model = {"model": self.model.name, "label": self.model.label or None}
        return {"output": self.kind, "output_tissues": self.tissues, **of_model}

    def _segment(self, image: Path, paths: OutputPaths) -> Result:
        for mask in edited_masks(paths):
            raise ImageError(f"{mask}: edited by hand; delete it to have the image segmented again")
        started = time.monotonic()
        data, grid = read_image(image, self.max_upload_bytes)
        check_writable(paths.mask.parent)
        limit = max_answer_bytes(grid, self.kind)
        request_id = uuid.uuid4().hex
        sent = as_sent(data, grid, self.max_upload_bytes)
        try:
            answer = self._until_deadline(lambda seconds: self._predict(sent, seconds, limit, request_id))
            record, draws = self._record(data, answer, started, request_id), self._draws(answer)
            result = Result(image, paths, grid, self.kind, self.tissues, answer, record, draws)
            result.check()
            return result
        except ImageError as error:
            refusal = type(error)(f"{image}: {error}")
            refusal.request_id = request_id
            raise refusal from error
        except ClientError as error:
            error.request_id = request_id
            raise

    def _predict(self, data: bytes, seconds: float, limit: int, request_id: str) -> Answer:
        """Send one request."""
        attributes = {"scgm.model": self.model.name, "scgm.request_id": request_id}
        with request_span("scgm segment", attributes) as headers:
            headers["x-request-id"] = request_id
            with self.metrics.request() if self.metrics else nullcontext():
                return self._transport.predict(data, seconds, limit, headers)

    def _record(self, data: bytes, answer: Answer, started: float, request_id: str) -> dict[str, Any]:
        # The clock may be set meanwhile.
        seconds = time.monotonic() - started
        return {
            "server": self.access.url,
            **self._result_settings,
            "version": answer.version,
            "signature": self.model.signature,
            "request_id": request_id,
            "input_sha256": hashlib.sha256(data).hexdigest(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds)),
            "seconds": round(seconds, 3),
        }

    def _draws(self, answer: Answer) -> bool:
        if self.picture and not answer.findings:
            raise SettingsError(
                "the server's answers lack data for the picture; export the model again, or use --no-picture"
            )
        return can_draw() if self.picture is None else self.picture

    def _until_deadline(self, request: Callable[[float], _Reply]) -> _Reply:
        ends = time.monotonic() + self.deadline

        def attempt() -> _Reply:
            if not self._free_connections.acquire(timeout=max(0.0, ends - time.monotonic())):
                raise ServerUnavailable("all connections are busy with other images")
            try:
                reply = request(min(self.timeout, max(SHORTEST_TRY_SECONDS, ends - time.monotonic())))
            except ServerUnreachable:
                raise
            except ClientError:
                self._was_reached = True
                raise
            finally:
                self._free_connections.release()
            self._was_reached = True
            return reply

        tries = Retrying(
            retry=retry_if_exception_type(ServerUnavailable),
            wait=wait_exponential(multiplier=0.3, max=LONGEST_PAUSE_SECONDS) + wait_random(0, 0.3),
            sleep=sleep_using_event(self._closed),
            stop=self._is_over,
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            return tries(attempt)
        except ServerUnreachable as error:
            if self._was_reached:
                raise
            raise ServerUnreachable(
                f"{self.access.url}: {error}; start the server, check --server, or wait for the server with --wait 60"
            ) from error

    def _is_over(self, state: RetryCallState) -> bool:
        if self._closed.is_set():
            return True
        never = isinstance(_failure(state), ServerUnreachable) and not self._was_reached
        return (state.seconds_since_start or 0.0) + state.upcoming_sleep >= (
            self.wait if never else self.deadline
        )

    def _tell(self, state: RetryCallState) -> None:
        if self._on_retry:
            self._on_retry(f"{_failure(state)}; trying again")


def _sha256_of(image: Path) -> str:
    try:
        return hashlib.sha256(image.read_bytes()).hexdigest()
    except OSError as error:
        raise ImageError(f"{image}: cannot be read ({error.strerror}); check the path") from error


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _connect(access: Access, model: Model) -> Transport:
    if access.scheme in ("http", "https"):
        from keras_scgm_client.rest import RestTransport

        return RestTransport(access, model)
    try:
        from keras_scgm_client.rpc import GrpcTransport
    except ImportError as error:
        raise ClientError(f"{error.name} is not installed; pip install 'keras-scgm-client[grpc]'") from error
    return GrpcTransport(access, model)

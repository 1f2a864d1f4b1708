"""Runs the gateway: receives series, has them segmented and sends the results, until it is stopped."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
from pydicom import dcmread

from keras_scgm.dicom.objects import SegmentedSeries, make_results
from keras_scgm.dicom.series import SeriesError, place_of, read_series, write_nifti
from keras_scgm_client import logs
from keras_scgm_client.answer import VERDICTS
from keras_scgm_client.client import Client
from keras_scgm_client.dicom.peers import Listener, Peer, PeerRefuses, PeerUnavailable, Sender, Tls
from keras_scgm_client.dicom.spool import Discarded, Spool, State
from keras_scgm_client.errors import ClientError, OutputError, ServerError
from keras_scgm_client.metrics import Metrics
from keras_scgm_client.outputs import OutputPaths

LOOK_SECONDS = 0.2
PRUNE_SECONDS = 60.0
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 300.0
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class GatewayConfig:
    """Settings of a gateway.

    Args:
        store: Folder of all series and results.
        peer: Receiver of the results.
        title: AE title of the gateway.
        host: Address to listen on.
        port: Port to listen on; 0 selects a free port.
        calling: AE titles that may send images; any if empty.
        match: Pattern of names that replaces the rule for sequence and echo time.
        settle_seconds: Time without a new image after which a series is complete, s.
        deadline_seconds: Time from the last image to the arrival of the results after which a series fails, s.
        keep_days: Days for which a series stays on disk after it was sent.
        max_bytes: Total size of all files above which images are refused, bytes.
        metrics_port: Port of the Prometheus metrics on the same address; none if None.
        tls: Files for encrypted associations to senders and receiver; unencrypted if None.
        retry_failed: Whether to process failed series again.
    """

    store: Path
    peer: Peer
    title: str = "SCGM"
    host: str = "127.0.0.1"
    port: int = 11112
    calling: Sequence[str] = ()
    match: re.Pattern[str] | None = None
    settle_seconds: float = 30.0
    deadline_seconds: float = float("inf")
    keep_days: float = 30.0
    max_bytes: int = 50 * 10**9
    metrics_port: int | None = None
    tls: Tls | None = None
    retry_failed: bool = False


class _Ignored(Exception):
    """None of the images of a series is kept; the message has the reasons."""


@dataclass
class _Pauses:
    """Increasing pauses between the retries of each series."""

    _tries: dict[str, tuple[int, float]] = field(default_factory=dict)

    def are_over(self, name: str) -> bool:
        return time.monotonic() >= self._tries.get(name, (0, 0.0))[1]

    def after_failure(self, name: str) -> float:
        n_tries = self._tries.get(name, (0, 0.0))[0] + 1
        seconds = min(LONGEST_PAUSE_SECONDS, SHORTEST_PAUSE_SECONDS * 2 ** min(n_tries - 1, 20))
        self._tries[name] = n_tries, time.monotonic() + seconds
        return seconds

    def forget(self, name: str) -> None:
        self._tries.pop(name, None)


class _Metrics:
    def __init__(self, spool: Spool, registry: CollectorRegistry) -> None:
        self.series = Counter(
            "scgm_gateway_series", "Series that were sent, ignored or failed", ["outcome"], registry=registry
        )
        self.verdicts = Counter(
            "scgm_gateway_verdicts", "Verdicts of segmented series", ["verdict"], registry=registry
        )
        self.refused = Counter(
            "scgm_gateway_refused", "Images and associations that were refused", registry=registry
        )
        # Prometheus sees an increase only of what it has seen before.
        for outcome in ("sent", "ignored", "failed"):
            self.series.labels(outcome)
        for verdict in VERDICTS:
            self.verdicts.labels(verdict)
        pending = Gauge("scgm_gateway_pending", "Series on the disk", ["state"], registry=registry)
        states: tuple[State, ...] = ("incoming", "outgoing", "failed")
        for state in states:
            pending.labels(state).set_function(partial(self._count, spool, state))

    @staticmethod
    def _count(spool: Spool, state: State) -> int:
        return sum(bool(spool.images(state, name)) for name in spool.names(state))


def log(event: str, series: str = "", level: int = logging.INFO, /, **fields: Any) -> None:
    """Log an event without patient data; a series is named by its keyed hash."""
    details = ", ".join(f"{name} {value}" for name, value in fields.items() if value is not None)
    message = ": ".join(part for part in (series, event, details) if part)
    logs.say(level, message, event=event, series=series or None, **fields)


class Gateway:
    """A listener, a thread that segments and a thread that sends.

    Args:
        config: Settings of the gateway.
        client: Client of the server.
        metrics: Metrics of the client, to whose registry those of the gateway are added.

    Raises:
        ClientError: The folder or a TLS file cannot be used.
    """

    def __init__(self, config: GatewayConfig, client: Client, metrics: Metrics) -> None:
        self.config = config
        self._client = client
        self._stop = threading.Event()
        self._spool = Spool(config.store, config.max_bytes)
        self._metrics = _Metrics(self._spool, metrics.registry)
        self._registry = metrics.registry
        self._listener = Listener(
            self._spool, config.title, config.calling, config.match, self._log, config.tls
        )
        self._sender = Sender(config.peer, config.title, config.tls)
        self._pauses = _Pauses()
        self._threads: list[threading.Thread] = []

    def start(self) -> int:
        """Start the listener and the threads.

        Returns:
            Port of the listener.

        Raises:
            ClientError: An address cannot be used.
        """
        config = self.config
        port = self._listener.start(config.host, config.port)
        if config.metrics_port is not None:
            try:
                start_http_server(config.metrics_port, config.host, self._registry)
            except OSError as error:
                raise ClientError(
                    f"{config.host}:{config.metrics_port}: cannot listen there ({error.strerror}); "
                    "check --metrics-port"
                ) from error
        if config.retry_failed:
            for name in self._spool.retry_failed():
                log("retried", name)
        log("started", port=port)
        for work in (self._segment_all, self._send_all, self._prune):
            self._threads.append(threading.Thread(target=self._repeat, args=(work,), daemon=True))
            self._threads[-1].start()
        return port

    def stop(self) -> None:
        """Stop receiving images, and wait up to `STOP_SECONDS` for the current step."""
        self._stop.set()
        self._listener.stop()
        ends = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))
        log("stopped")

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                work()
            except Exception as error:
                _log_unexpected(error)

    def _log(self, event: str, series: str = "", level: int = logging.INFO, /, **fields: Any) -> None:
        if event == "refused":
            self._metrics.refused.inc()
        log(event, series, level, **fields)

    def _segment_all(self) -> None:
        for name in self._spool.complete(self.config.settle_seconds, self._listener.receiving()):
            images = self._spool.images("incoming", name)
            discarded = self._spool.discarded("incoming", name)
            work = partial(self._segment, name, images, discarded)
            self._step(name, images, "incoming", "outgoing", work, discarded)

    def _send_all(self) -> None:
        for name in self._spool.names("outgoing"):
            images = self._spool.images("outgoing", name)
            self._step(name, images, "outgoing", "sent", partial(self._send, name))

    def _step(
        self,
        name: str,
        images: Sequence[Path],
        source: State,
        target: State,
        work: Callable[[], None],
        discarded: Mapping[str, Discarded] | None = None,
    ) -> None:
        """Run one step of a series and change its state, or schedule a retry."""
        if self._stop.is_set() or not self._pauses.are_over(name):
            return
        try:
            work()
        except _Ignored as error:
            self._advance(name, images, source, "ignored", str(error))
        except (OutputError, ServerError, PeerUnavailable, OSError) as error:
            if time.time() - self._spool.received(name, source) > self.config.deadline_seconds:
                reason = f"{_reason(error)}; not done within --deadline"
                self._advance(name, images, source, "failed", reason, error)
            else:
                self._wait(name, error)
        except (SeriesError, ClientError, PeerRefuses) as error:
            self._advance(name, images, source, "failed", str(error), error)
        except Exception as error:
            _log_unexpected(error, name)
            reason = f"an unexpected {type(error).__name__}; see the log for its position in the code"
            self._advance(name, images, source, "failed", reason)
        else:
            self._advance(name, images, source, target, discarded=discarded)

    def _advance(
        self,
        name: str,
        images: Sequence[Path],
        source: State,
        target: State,
        reason: str = "",
        error: BaseException | None = None,
        discarded: Mapping[str, Discarded] | None = None,
    ) -> None:
        try:
            is_changed = self._spool.advance(name, images, source, target, reason, discarded)
        except OSError as disk_error:
            self._wait(name, disk_error)
            return
        self._pauses.forget(name)
        if is_changed and target != "outgoing":
            self._metrics.series.labels(target).inc()
            level = logging.ERROR if target == "failed" else logging.INFO
            log(target, name, level, reason=reason or None, request_id=_request_id(error))

    def _wait(self, name: str, error: BaseException) -> None:
        log(
            "waiting",
            name,
            logging.WARNING,
            reason=_reason(error),
            seconds=self._pauses.after_failure(name),
            request_id=_request_id(error),
        )

    def _segment(self, name: str, images: Sequence[Path], discarded: Mapping[str, Discarded]) -> None:
        if not images:
            raise _Ignored(_reasons(discarded.values()))
        missed = _missed(images, discarded.values())
        if missed:
            raise SeriesError(
                f"{len(missed)} of its {len(images) + len(discarded)} images do not fit ({_reasons(missed)}); correct "
                "their headers and send them again, or delete the folder of the series and send the others alone"
            )
        if self._spool.has_results(name, images):
            return
        series = read_series(images)
        image = self._spool.path("incoming", name) / "work" / f"{name}.nii.gz"
        shutil.rmtree(image.parent, ignore_errors=True)
        image.parent.mkdir()
        write_nifti(series, image)
        paths = OutputPaths.for_input(image)
        self._client.segment(image)
        record = json.loads(paths.record.read_text())
        masks = [_voxels(path) for path in paths.tissues if path.exists()]
        segmented = SegmentedSeries.from_record(masks, record)
        results = make_results(series, segmented, paths.picture.read_bytes())
        self._spool.write_results(name, images, results)
        self._metrics.verdicts.labels(segmented.verdict).inc()
        log("segmented", name, verdict=segmented.verdict, request_id=record["request_id"])

    def _send(self, name: str) -> None:
        files = self._spool.unsent(name)
        if files:
            self._sender.send(files, self._spool.mark_sent)

    def _prune(self) -> None:
        if self._stop.wait(PRUNE_SECONDS):
            return
        for name in self._spool.prune(self.config.keep_days * 86400):
            log("deleted", name)


def _voxels(mask: Path) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_filename(mask).dataobj)


def _missed(images: Sequence[Path], discarded: Iterable[Discarded]) -> list[Discarded]:
    """Images that are not kept, at whose places there is no other."""
    if not discarded:
        return []
    places = {place_of(dcmread(path, stop_before_pixels=True)) for path in images}
    return [one for one in discarded if not one.place or one.place not in places]


def _reasons(discarded: Iterable[Discarded]) -> str:
    return "; ".join(sorted({one.reason for one in discarded}))


def _reason(error: BaseException) -> str:
    """Text of an error; of the disk's errors without the name of the file."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)


def _request_id(error: BaseException | None) -> str | None:
    return error.request_id if isinstance(error, ClientError) else None


def _log_unexpected(error: BaseException, series: str = "") -> None:
    # The text of an error may contain patient data from a header; its traceback positions do not.
    places = traceback.extract_tb(error.__traceback__)
    log(
        "unexpected error",
        series,
        logging.ERROR,
        error=type(error).__name__,
        reason=error.strerror if isinstance(error, OSError) else None,
        place=[f"{Path(place.filename).name}:{place.lineno}" for place in places],
    )


def run(config: GatewayConfig, client: Client, metrics: Metrics) -> int:
    """Run a gateway until SIGTERM, SIGINT or SIGHUP.

    Raises:
        ClientError: The folder or an address cannot be used.
    """
    _keep_quiet()
    gateway = Gateway(config, client, metrics)
    gateway.start()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        gateway.stop()
    sys.stderr.flush()
    # Threads that wait for the server or the receiver must not delay the exit; the files on disk are consistent.
    os._exit(0)


def _keep_quiet() -> None:
    """Restrict files to this user, and silence the DICOM packages, whose messages quote headers."""
    os.umask(0o077)
    warnings.simplefilter("ignore")
    for package in ("pynetdicom", "pydicom", "highdicom"):
        logger = logging.getLogger(package)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False
    threading.excepthook = lambda thread: _log_unexpected(thread.exc_value or RuntimeError())

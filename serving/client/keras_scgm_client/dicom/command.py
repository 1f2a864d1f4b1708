"""`scgm-client dicom-gateway`: starts the DICOM gateway."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from keras_scgm_client.client import Client
from keras_scgm_client.errors import ClientError
from keras_scgm_client.metrics import Metrics


def add_parser(commands: Any, parents: list[argparse.ArgumentParser], connect: Callable[..., Client]) -> None:
    """Add the command.

    Args:
        commands: Subparsers of the program.
        parents: Parsers of the server's options.
        connect: Function that creates the client from the options and further settings.
    """
    parser = commands.add_parser(
        "dicom-gateway", parents=parents, help="receive T2*-weighted series, send DICOM segmentations"
    )
    parser.add_argument(
        "--store", type=Path, required=True, metavar="DIR", help="folder of all series and results"
    )
    parser.add_argument("--send-to", required=True, metavar="AET@HOST:PORT", help="receiver of the results")
    parser.add_argument("--ae-title", default="SCGM", metavar="AET", help="own title (default %(default)s)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all (default %(default)s)"
    )
    parser.add_argument("--port", type=int, default=11112, help="0 selects a free port (default %(default)s)")
    parser.add_argument(
        "--calling",
        action="append",
        default=[],
        metavar="AET",
        help="AE title that may send images; repeatable (default: any)",
    )
    parser.add_argument(
        "--match",
        metavar="REGEX",
        help="protocol, series description or sequence name; without it, gradient echoes from 4 ms on",
    )
    parser.add_argument(
        "--settle",
        type=float,
        default=30.0,
        metavar="S",
        help="time without a new image after which a series is complete (default %(default)g s)",
    )
    parser.add_argument(
        "--deadline",
        type=float,
        default=float("inf"),
        metavar="S",
        help="time after the last image in which the results must be sent, otherwise the series fails (default: none)",
    )
    parser.add_argument(
        "--keep-days",
        type=float,
        default=30.0,
        help="days after which series that were sent are deleted (default %(default)g)",
    )
    parser.add_argument(
        "--max-gb",
        type=float,
        default=50.0,
        help="size of the store above which images are refused (default %(default)g)",
    )
    parser.add_argument("--retry-failed", action="store_true", help="process failed series again")
    parser.add_argument("--metrics-port", type=int, metavar="PORT", help="port of the Prometheus metrics")
    for name, text in (
        ("cert", "certificate of the gateway for DICOM over TLS"),
        ("key", "key of the certificate"),
        ("ca", "authority of the certificates of senders and receiver"),
    ):
        parser.add_argument(f"--dicom-{name}", type=Path, metavar="FILE", help=text)
    parser.set_defaults(run=lambda options: _run(options, connect))


def _run(options: argparse.Namespace, connect: Callable[..., Client]) -> int:
    if find_spec("fcntl") is None:
        raise ClientError("the gateway runs on Linux and macOS, not on this system")
    try:
        from keras_scgm_client.dicom.gateway import GatewayConfig, run
        from keras_scgm_client.dicom.peers import Peer, Tls, is_ae_title
    except ImportError as error:
        raise ClientError(f"{error.name} is not installed; pip install 'keras-scgm-client[dicom]'") from error

    for title in (options.ae_title, *options.calling):
        if not is_ae_title(title):
            raise ClientError(f"{title}: not an AE title; give 1 to 16 ASCII characters")
    for name in ("settle", "deadline", "keep_days", "max_gb"):
        if not getattr(options, name) > 0:
            raise ClientError(
                f"--{name.replace('_', '-')} must be over 0, received {getattr(options, name):g}"
            )
    if options.max_gb * 1e9 == float("inf"):
        raise ClientError(f"--max-gb must be finite, received {options.max_gb:g}")
    for name in ("port", "metrics_port"):
        if not 0 <= (getattr(options, name) or 0) < 65536:
            raise ClientError(
                f"--{name.replace('_', '-')} must be 0 to 65535, received {getattr(options, name)}"
            )
    files = options.dicom_cert, options.dicom_key, options.dicom_ca
    if any(files) and not all(files):
        raise ClientError("--dicom-cert, --dicom-key and --dicom-ca go together; give all three")
    try:
        peer = Peer.parse(options.send_to)
        match = re.compile(options.match) if options.match else None
    except re.error as error:
        raise ClientError(f"--match {options.match}: not a regular expression ({error})") from error
    except ValueError as error:
        raise ClientError(str(error)) from error
    config = GatewayConfig(
        store=options.store,
        peer=peer,
        title=options.ae_title,
        host=options.host,
        port=options.port,
        calling=options.calling,
        match=match,
        settle_seconds=options.settle,
        deadline_seconds=options.deadline,
        keep_days=options.keep_days,
        max_bytes=int(options.max_gb * 1e9),
        metrics_port=options.metrics_port,
        tls=Tls(*files) if all(files) else None,
        retry_failed=options.retry_failed,
    )
    metrics = Metrics()
    with connect(options, picture=True, deadline=options.timeout, metrics=metrics) as client:
        return run(config, client, metrics)

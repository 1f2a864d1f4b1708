"""DICOM associations of the gateway: receives images and sends results."""

from __future__ import annotations

import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydicom import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom import AE, AllStoragePresentationContexts, VerificationPresentationContexts, _config, evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from keras_scgm.dicom.series import MR_CLASSES, OTHER_KIND, place_of, why_ignored
from keras_scgm_client.dicom.spool import Spool, SpoolFull
from keras_scgm_client.errors import ClientError

SUCCESS, OUT_OF_RESOURCES, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xC000
"""Status of a C-STORE response (PS3.4, B.2.3)."""
MAX_ASSOCIATIONS = 10
MAX_IMAGE_BYTES = 300_000_000
"""Largest image that is received; the voxels of the largest series that is read have 268 MB."""
CONNECT_SECONDS, HANDSHAKE_SECONDS, NETWORK_SECONDS = 10.0, 3.0, 60.0

_PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_LOSSLESS = (RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLossless, JPEGLosslessSV1)
_REJECTED = {
    3: "its AE title is not among those of --calling",
    7: "it calls another AE title than that of --ae-title",
}
"""Reasons of the gateway's own, by their number in the rejection (PS3.8, 9.3.4)."""
_AE_TITLE = re.compile(r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?")


class PeerUnavailable(Exception):
    """The receiver is unavailable or full; a retry may succeed."""


class PeerRefuses(Exception):
    """The receiver refuses the result; a retry would fail too."""


class Log(Protocol):
    def __call__(self, event: str, series: str = "", level: int = ..., /, **fields: Any) -> None: ...


@dataclass(frozen=True)
class Peer:
    """Receiver of the results.

    Args:
        title: AE title of the receiver.
        host: Host name or address.
        port: DICOM port.
    """

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Peer:
        """Parse `AET@HOST:PORT`.

        Raises:
            ValueError: The text has another form.
        """
        title, _, address = text.partition("@")
        host, _, port = address.rpartition(":")
        if not (is_ae_title(title) and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{text}: not a DICOM address; give for example PACS@pacs.example.org:104")
        return cls(title, host.strip("[]"), int(port))


@dataclass(frozen=True)
class Tls:
    """Files for DICOM over TLS, where both sides present a certificate.

    Args:
        certificate: File of the gateway's certificate.
        key: File of the certificate's key.
        ca: File of the authority that signs the other side's certificate.
    """

    certificate: Path
    key: Path
    ca: Path

    def server_context(self) -> ssl.SSLContext:
        """TLS context for connections from senders.

        Raises:
            ClientError: A file cannot be used.
        """
        return self._with_files(_ServerContext(ssl.PROTOCOL_TLS_SERVER))

    def client_context(self) -> ssl.SSLContext:
        """TLS context for connections to the receiver; raises the same errors."""
        return self._with_files(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def _with_files(self, context: ssl.SSLContext) -> ssl.SSLContext:
        try:
            context.load_verify_locations(self.ca)
            context.load_cert_chain(self.certificate, self.key)
        except OSError as error:
            raise ClientError(f"the DICOM TLS files cannot be used ({error}); check them") from error
        context.verify_mode = ssl.CERT_REQUIRED
        return context


class _ServerContext(ssl.SSLContext):
    """Limits the duration of handshakes, because pynetdicom accepts one connection at a time."""

    def wrap_socket(self, sock: socket.socket, *arguments: Any, **settings: Any) -> ssl.SSLSocket:
        sock.settimeout(HANDSHAKE_SECONDS)
        wrapped = super().wrap_socket(sock, *arguments, **settings)
        wrapped.settimeout(NETWORK_SECONDS)
        return wrapped


def is_ae_title(text: str) -> bool:
    """Whether a text is a valid AE title: 1 to 16 ASCII characters without backslash."""
    return _AE_TITLE.fullmatch(text) is not None


def readable_syntaxes() -> list[str]:
    """Lossless transfer syntaxes that the installed packages decode.

    Deflated files are excluded, because a small one can expand to any size.
    """
    compressed = [syntax for syntax in _LOSSLESS if get_decoder(syntax).is_available]
    return [str(syntax) for syntax in (*_PLAIN, *compressed)]


class _BoundedReceive:
    """In place of `recv` of an association's socket: receives at most `MAX_IMAGE_BYTES` until a C-STORE is answered.

    pynetdicom reads whole PDUs and messages into memory, however large they are.

    Args:
        link: The association.
        receive: Its `recv`.
        refused: Function that logs the reason of a refusal.
    """

    def __init__(
        self,
        link: Association,
        receive: Callable[[int], bytearray],
        refused: Callable[[Association, str], None],
    ) -> None:
        self._link = link
        self._receive = receive
        self._refused = refused
        self._n_bytes = 0

    def __call__(self, n_bytes: int) -> bytearray:
        self._n_bytes += n_bytes
        if self._n_bytes > MAX_IMAGE_BYTES:
            self._refused(self._link, f"an image of over {MAX_IMAGE_BYTES / 1e6:.0f} MB")
            raise ConnectionAbortedError
        return self._receive(n_bytes)

    def answered(self) -> None:
        # A sender that does not wait for answers has sent more meanwhile.
        if self._link.dimse.message is None and self._link.dimse.msg_queue.empty():
            self._n_bytes = 0


class Listener:
    """Receives images, and acknowledges each after it was written to disk.

    Args:
        spool: Folder that stores the images.
        title: AE title of the gateway; associations that call another title are refused.
        calling: AE titles that may send images; any if empty.
        match: Pattern of names, see `why_ignored`.
        log: Function that logs events.
        tls: TLS files; unencrypted if None.
    """

    def __init__(
        self,
        spool: Spool,
        title: str,
        calling: Sequence[str],
        match: re.Pattern[str] | None,
        log: Log,
        tls: Tls | None,
    ) -> None:
        self._spool = spool
        self._match = match
        self._log = log
        self._tls = tls
        self._receiving: dict[threading.Thread, set[str]] = {}
        self._not_kept: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._entity = _entity(title)
        self._entity.require_called_aet = True
        self._entity.require_calling_aet = list(calling)
        self._entity.maximum_associations = MAX_ASSOCIATIONS
        for context in (*VerificationPresentationContexts, *AllStoragePresentationContexts):
            self._entity.add_supported_context(context.abstract_syntax or "", readable_syntaxes())

    def start(self, host: str, port: int) -> int:
        """Start to listen, in threads.

        Returns:
            Port of the listener.

        Raises:
            ClientError: The address cannot be used.
        """
        context = self._tls.server_context() if self._tls else None
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_RELEASED, self._released),
        ]
        try:
            server = self._entity.start_server(
                (host, port), block=False, ssl_context=context, evt_handlers=handlers
            )
        except OSError as error:
            raise ClientError(
                f"{host}:{port}: cannot listen there ({error.strerror}); check --host and --port"
            ) from error
        assert server is not None
        return int(server.server_address[1])

    def stop(self) -> None:
        """Refuse new associations, and end those that are open."""
        self._entity.shutdown()

    def receiving(self) -> set[str]:
        """Series with images from associations that are still open."""
        with self._lock:
            self._receiving = {link: names for link, names in self._receiving.items() if link.is_alive()}
            return set().union(*self._receiving.values())

    def _opened(self, event: Event) -> None:
        connection: Any = event.assoc.dul.socket
        connection.recv = _BoundedReceive(event.assoc, connection.recv, self._refused)

    def _rejected(self, event: Event) -> None:
        answer: Any = event.assoc.acceptor.primitive
        self._refused(event.assoc, _REJECTED.get(answer.diagnostic, answer.reason_str))

    def _accepted(self, event: Event) -> None:
        taken = {context.abstract_syntax for context in event.assoc.accepted_contexts}
        lost = {context.abstract_syntax for context in event.assoc.rejected_contexts} - taken
        if not taken or lost.intersection(MR_CLASSES):
            self._refused(
                event.assoc, "it offers MR images in no transfer syntax that is read; send them uncompressed"
            )

    def _refused(self, link: Association, reason: str) -> None:
        sender = link.requestor
        self._log(
            "refused", "", logging.WARNING, reason=reason, calling=sender.ae_title, address=sender.address
        )

    def _released(self, event: Event) -> None:
        with self._lock:
            names = self._receiving.pop(event.assoc, set())
            # A sender that was refused an image gets time to send it again.
            names -= {name for name, _ in self._not_kept}
        for name in names - self.receiving():
            self._spool.released(name)

    def _store(self, event: Event) -> int:
        try:
            return self._keep(event.assoc, event.dataset, event.encoded_dataset)
        except SpoolFull:
            self._refused(event.assoc, "the store has reached --max-gb")
            return OUT_OF_RESOURCES
        except OSError as error:
            self._refused(event.assoc, f"{error.strerror}")
            return OUT_OF_RESOURCES
        except Exception as error:
            # Error messages of other packages may contain patient data from the header.
            self._refused(event.assoc, f"not understood ({type(error).__name__})")
            return NOT_UNDERSTOOD
        finally:
            connection: Any = event.assoc.dul.socket
            connection.recv.answered()

    def _keep(self, link: Association, image: Dataset, encoded: Callable[[], bytes]) -> int:
        for keyword in ("SeriesInstanceUID", "SOPInstanceUID"):
            if not image.get(keyword):
                self._refused(link, f"an image lacks {keyword}; correct it at the sender")
                return NOT_UNDERSTOOD
        series_uid, instance_uid = str(image.SeriesInstanceUID), str(image.SOPInstanceUID)
        name = self._spool.name(series_uid)
        with self._lock:
            names = self._receiving.setdefault(link, set())
            is_first = name not in names
            names.add(name)
            self._not_kept.add((name, instance_uid))
        try:
            reason = why_ignored(image, self._match)
        # What a damaged header raises can be of any type.
        except Exception as error:
            reason = f"a header that cannot be read ({type(error).__name__})"
        if reason:
            place = place_of(image) if reason == OTHER_KIND else ()
            is_new = self._spool.discard(series_uid, instance_uid, reason, place)
        else:
            is_new = self._spool.store(series_uid, instance_uid, encoded())
        with self._lock:
            self._not_kept.discard((name, instance_uid))
        if is_first:
            self._log("receiving" if is_new else "received before", name)
        return SUCCESS


class Sender:
    """Sends results to a receiver.

    Args:
        peer: Receiver of the results.
        title: AE title of the gateway.
        tls: TLS files; unencrypted if None.

    Raises:
        ClientError: A TLS file cannot be used.
    """

    def __init__(self, peer: Peer, title: str, tls: Tls | None) -> None:
        self._peer = peer
        self._entity = _entity(title)
        self._context = tls.client_context() if tls else None
        for storage in (SegmentationStorage, SecondaryCaptureImageStorage):
            self._entity.add_requested_context(storage, list(_PLAIN))

    def send(self, files: Sequence[Path], accepted: Callable[[Path], None]) -> None:
        """Send files over one association.

        Args:
            files: DICOM files.
            accepted: Function that is called with each file that the receiver accepted.

        Raises:
            PeerUnavailable: Not all files were sent.
            PeerRefuses: The receiver refuses a file permanently.
        """
        tls = (self._context, self._peer.host) if self._context else None
        link = self._entity.associate(
            self._peer.host, self._peer.port, ae_title=self._peer.title, tls_args=tls
        )
        if link.is_rejected:
            raise PeerUnavailable("the receiver rejects the association; check the AE titles")
        if link.rejected_contexts and not link.accepted_contexts:
            raise PeerRefuses("the receiver accepts neither segmentations nor secondary captures")
        if not link.is_established:
            raise PeerUnavailable("no association")
        try:
            for file in files:
                try:
                    status = link.send_c_store(file).get("Status")
                except ValueError as error:
                    raise PeerRefuses(f"the receiver does not accept objects such as {file.stem}") from error
                except RuntimeError as error:
                    raise PeerUnavailable("the association was ended") from error
                if status is None:
                    raise PeerUnavailable("no answer from the receiver")
                if status != SUCCESS and status >> 12 != 0xB:
                    refused = status >> 8 == 0xA9 or status >> 12 == 0xC or status == 0x0122
                    error_type = PeerRefuses if refused else PeerUnavailable
                    raise error_type(f"the receiver answers {file.stem} with status {status:04X}")
                accepted(file)
        finally:
            if link.is_established:
                link.release()


def _entity(title: str) -> AE:
    _config.LOG_HANDLER_LEVEL = "none"
    entity = AE(title)
    entity.connection_timeout = CONNECT_SECONDS
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = NETWORK_SECONDS
    return entity

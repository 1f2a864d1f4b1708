"""Errors of the client, by who has to act: the user, or the operator of the server."""


class ClientError(Exception):
    """Base of all errors of this package; the message is one line and names the remedy.

    Attributes:
        request_id: Identifier of the failed request; None if nothing was sent.
    """

    request_id: str | None = None


class ImageError(ClientError):
    """The image cannot be segmented, or its result cannot be written; a retry fails too, but for `OutputError`."""


class NotAnImageError(ImageError):
    """The file holds labels."""


class OutputError(ImageError):
    """The result cannot be written; a retry may succeed once the folder has room or is writable."""


class ServerError(ClientError):
    """The server failed, cannot be reached, or denies access."""


class SettingsError(ServerError):
    """Address, model, label, token or certificate is wrong, which concerns every image."""


class ServerUnavailable(ServerError):
    """The server is unavailable, busy or slow; the client retries until its deadline."""


class ServerUnreachable(ServerUnavailable):
    """There is no connection, or an answer in another protocol; worth a retry if the server was reached before."""

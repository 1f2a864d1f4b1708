"""What can go wrong, by who has to do something about it."""


class ClientError(Exception):
    """Base of all errors of this package; the message is one line and says what to do.

    Attributes:
        request_id: of the request that it is about, None if nothing was sent.
    """

    request_id: str | None = None


class ImageError(ClientError):
    """The image cannot be segmented, or its result cannot be written; trying again changes nothing."""


class ServerError(ClientError):
    """The server, its address or the access to it is not as it should be."""


class SettingsError(ServerError):
    """Address, model, label, token or certificate is wrong, and so for every image."""


class ServerUnavailable(ServerError):
    """The server is away, busy or slow; the client tries again until its deadline."""


class ServerUnreachable(ServerUnavailable):
    """There is no connection; nothing was sent."""

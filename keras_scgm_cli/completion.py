"""What a shell completes beside commands and options."""

from __future__ import annotations


def known_weights() -> list[str]:
    """Names of weights; the shell completes files if none fits."""
    from keras_scgm.pretrained import list_weights

    return list_weights()

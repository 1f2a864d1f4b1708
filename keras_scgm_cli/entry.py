"""Entry point of the program, which imports nothing that takes time before Ctrl-C is one line."""

import signal

from keras_scgm_cli.interruption import exits_on_interrupt


def main() -> None:
    """Run the program."""
    try:
        with exits_on_interrupt():
            from keras_scgm_cli.main import main as run

            run()
    finally:
        # Nothing is left to interrupt.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

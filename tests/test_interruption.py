"""Ctrl-C: one line, in imports, commands and trainings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from interrupted_in_process import START_AGAIN

INTERRUPTED_IMPORT = """
import signal, sys
from keras_scgm_cli.entry import main

class Interrupting:
    def find_spec(name, *_):
        if name == sys.argv[2]:
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupting)
main()
"""

INTERRUPTED_END = """
import signal, sys
from keras_scgm_cli.entry import main

try:
    main()
finally:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.raise_signal(number)
"""


@pytest.mark.parametrize("module", ["typer", "keras"])
def test_imports_are_interrupted_at_once(module):
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, "weights", module]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", START_AGAIN)


def test_the_end_is_not_interrupted():
    command = [sys.executable, "-c", INTERRUPTED_END, "--version"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_commands_and_trainings_are_interrupted():
    """In a process of its own, which is the one that gets the signals."""
    tests = Path(__file__).with_name("interrupted_in_process.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cloudcoil", "-p", "no:xdist", str(tests)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "9 passed" in done.stdout

"""Pages in headless Chromium, without a network."""

import re
import shutil
import subprocess

from missing import missing

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",
    "--enable-logging=stderr",
    "--v=0",
)


def chromium():
    """Path of the program; without it the test fails in CI, and is skipped elsewhere."""
    return CHROMIUM or missing("Chromium")


def browse(page, *options):
    """What Chromium prints, and the errors of the page; no host name resolves."""
    command = [chromium(), *OPTIONS, "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=10000"]
    process = subprocess.run([*command, *options, page.as_uri()], capture_output=True, text=True, timeout=240)
    assert process.returncode == 0, process.stderr
    return process.stdout, console_errors(process.stderr)


def console_errors(log):
    """Lines of a log of Chromium that tell of errors on the page."""
    console = re.findall(r":CONSOLE:?\(?\d*\)?\] (.*)", log)
    return [line for line in console if re.search(r"Uncaught|Error|Failed|WebGL is not", line)]

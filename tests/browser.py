"""Pages in headless Chromium, without a network."""

import re
import shutil
import subprocess

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def browse(page, *options):
    """What Chromium prints, and the errors of the page; no host name resolves."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=10000"]
    command += ["--enable-logging=stderr", "--v=0", *options, page.as_uri()]
    process = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert process.returncode == 0, process.stderr
    console = re.findall(r":CONSOLE:?\(?\d*\)?\] (.*)", process.stderr)
    return process.stdout, [
        line for line in console if re.search(r"Uncaught|Error|Failed|WebGL is not", line)
    ]

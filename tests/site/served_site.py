"""The site on a server of this machine, and pages in Chromium that send the server what they see."""

import json
import queue
import shutil
import subprocess
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from browser import OPTIONS, chromium, console_errors

SAY = 'const say = seen => fetch("/seen", {method: "POST", body: JSON.stringify(seen)});'
"""JavaScript function that sends a value to the server."""


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *arguments, seen, missing, **options):
        self.seen, self.missing = seen, missing
        super().__init__(*arguments, **options)

    def log_message(self, *_):
        pass

    def send_error(self, code, *arguments):
        self.missing.append(f"{self.path}: {code}")
        super().send_error(code, *arguments)

    def do_POST(self):
        self.seen.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()


class ServedSite:
    """A copy of the site on a server.

    Args:
        folder: The copy.
        address: Address of the server.
        seen: What pages sent.
        missing: What was asked for and is not there.
    """

    def __init__(self, folder, address, seen, missing):
        self.folder, self.address, self.seen, self.missing = folder, address, seen, missing

    def visit(self, name, text, place, *options):
        """What a page of the given text sends, and the errors on it.

        Args:
            name: Name of the page, written at the top of the site.
            text: The page.
            place: Folder for the profile and the log of the browser.
            options: Further options of Chromium.
        """
        (self.folder / name).write_text(text, encoding="utf-8")
        command = [chromium(), *OPTIONS, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        command += [f"--user-data-dir={place / 'profile'}", *options, f"{self.address}/{name}"]
        log = place / "chromium.log"
        with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as browser:
            try:
                seen = self.seen.get(timeout=180)
            finally:
                browser.terminate()
        missing = [one for one in self.missing if not one.startswith("/favicon")]
        self.missing.clear()
        return seen, [*missing, *console_errors(log.read_text(encoding="utf-8", errors="replace"))]


@contextmanager
def served(site, folder):
    """A copy of the site, served."""
    shutil.copytree(site, folder)
    seen, missing = queue.Queue(), []
    handler = partial(_Handler, seen=seen, missing=missing, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield ServedSite(folder, f"http://127.0.0.1:{server.server_port}", seen, missing)
        server.shutdown()

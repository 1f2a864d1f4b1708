"""The licences of what the wheel bundles."""

import base64
import gzip
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "keras_scgm" / "study" / "page"
NOTICE = (PAGE / "niivue.LICENSE.txt").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def compiled():
    """The WebAssembly in NiiVue, which begins with the same bytes in base64, too."""
    script = gzip.decompress((PAGE / "niivue.umd.js.gz").read_bytes())
    blobs = re.findall(rb"AGFzb[\w+/]{1000,}=*", script)
    assert len(blobs) == 3
    return b"".join(base64.b64decode(blob) for blob in blobs)


@pytest.mark.parametrize(
    ("text", "library"),
    [
        (b"BLOSC_MAX_THREADS", "c-blosc"),
        (b"blosclz", "BloscLZ"),
        (b"lz4hc", "LZ4"),
        (b"N6snappy", "Snappy"),
        (b"zlib", "zlib"),
        (b"zstd codec error", "Zstandard"),
        (b"emscripten", "Emscripten"),
        (b"No error information", "musl"),
    ],
)
def test_compiled_libraries_have_a_notice(compiled, text, library):
    assert text in compiled
    assert re.search(rf"^{library}\b.*: (Copyright|\(C\)) ", NOTICE, re.MULTILINE)


def test_the_package_names_the_licences_of_the_notices():
    ours, theirs = {"MIT"}, re.findall(r"^== (.+) ==$", NOTICE, re.MULTILINE)
    assert set(PROJECT["license"].split(" AND ")) == ours.union(theirs)
    assert "keras_scgm/study/page/niivue.LICENSE.txt" in PROJECT["license-files"]

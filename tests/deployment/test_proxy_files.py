"""The proxy's nginx configuration, and shell scripts."""

import re
import subprocess

import crossplane
import pytest
from deployment_files import SERVING
from keras_scgm_client.client import MAX_UPLOAD_BYTES


def test_proxy_configuration():
    path = SERVING / "proxy" / "nginx.conf"
    errors = {str(error["error"]) for error in crossplane.parse(str(path), strict=True)["errors"]}
    # Entries of a map, and what is newer than the parser: http2 (nginx 1.25.1) and njs.
    assert {re.search(r'unknown directive "(.*?)"', error)[1] for error in errors} <= {
        *("http2", "js_import", "js_set"),
        *(entry for entry in map_entries(path.read_text())),
    }
    megabytes = int(re.search(r"client_max_body_size (\d+)m", path.read_text())[1])
    assert megabytes * 2**20 > MAX_UPLOAD_BYTES * 4 / 3 + 2**20


def map_entries(text):
    """What stands for a directive in the map blocks of an nginx file."""
    for block in re.findall(r"^ +map [^{]+\{\n(.*?)^    \}", text, re.MULTILINE | re.DOTALL):
        yield from (re.match(r'("?)(.*?)\1\s', line.strip())[2] for line in block.splitlines())


def test_proxy_checker_refuses_a_slip(tmp_path):
    text = (SERVING / "proxy" / "nginx.conf").read_text()
    (tmp_path / "nginx.conf").write_text(text.replace("client_max_body_size", "client_max_body_sise"))
    errors = crossplane.parse(str(tmp_path / "nginx.conf"), strict=True)["errors"]
    assert any("client_max_body_sise" in str(error["error"]) for error in errors)


@pytest.mark.parametrize("path", sorted(SERVING.rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_well_formed(path):
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0

"""Who is let in: tokens, certificates and TLS."""

import http.client
import json
import os
import re
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
import trustme
from keras_scgm_client import Client, SettingsError
from nginx_proxy import NIFTI, NOTHING_LISTENS, SHIPPED, USER, Proxy, rpc_status

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the container's user and capabilities are Linux's"
)


def test_it_runs_without_root_and_without_capabilities(proxy):
    children = Path(f"/proc/{proxy.process.pid}/task/{proxy.process.pid}/children").read_text().split()
    assert len(children) == 2
    for pid in (proxy.process.pid, *children):
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert set(status["Uid"].split()) == {str(USER if os.geteuid() == 0 else os.geteuid())}
        if os.geteuid() == 0:
            assert int(status["CapBnd"], 16) == 0
            assert status["NoNewPrivs"] == "1"
            assert status["Groups"].strip() == ""


def expired_line(proxy, day):
    token = proxy.add_token("carol")
    lines = (proxy.secrets / "tokens").read_text().splitlines()
    lines[-1] = f"{lines[-1].rsplit(' ', 1)[0]} {day}"
    (proxy.secrets / "tokens").write_text("\n".join(lines) + "\n")
    return token


@pytest.mark.parametrize(
    "token",
    [
        lambda proxy: None,
        lambda proxy: "f" * 64,
        lambda proxy: proxy.add_token("carol")[:-1],
        lambda proxy: (proxy.secrets / "tokens").read_text().split()[0],
        lambda proxy: expired_line(proxy, datetime.now(UTC).date()),
        lambda proxy: expired_line(proxy, "2020-01-01"),
        lambda proxy: expired_line(proxy, "tomorrow"),
    ],
    ids=["none", "unknown", "cut off", "its hash", "last day over", "long expired", "unreadable day"],
)
def test_401(proxy, alice, token, image):
    given = token(proxy)
    status, headers, answer = proxy.request("GET", NIFTI, token=given)
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer == {"error": "no valid token; ask the operator for one"}
    assert proxy.request("POST", f"{NIFTI}:predict", b"{}", given)[0] == 401
    metadata = [("authorization", f"Bearer {given}")] if given else []
    assert rpc_status(proxy, metadata) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "no valid token; ask the operator for one",
    )
    for url in (proxy.rest_url, proxy.rpc_url):
        with (
            Client(url, token=given, ca=proxy.ca, deadline=5) as client,
            pytest.raises(SettingsError, match=r"denies access .*check the token"),
        ):
            client.segment(image)


@pytest.mark.parametrize(
    "header", ["Basic YWxpY2U6eA==", "Bearer", "Bearer  ", "{token}", "Bearer {token} {token}"]
)
def test_401_for_other_headers(proxy, alice, header):
    assert proxy.request("GET", NIFTI, Authorization=header.format(token=alice))[0] == 401


def test_tokens_and_certificates_change_without_a_reload(nginx, authority):
    with Proxy(nginx, NOTHING_LISTENS, NOTHING_LISTENS, authority).running() as proxy:
        tokens = proxy.secrets / "tokens"
        assert proxy.request("GET", NIFTI, token="x")[0] == 401
        token = proxy.add_token("dave", 1)
        expected = (datetime.now(UTC) + timedelta(days=1)).date()
        assert re.fullmatch(rf"[0-9a-f]{{64}} dave {expected}\n", tokens.read_text())
        assert re.fullmatch("[0-9a-f]{64}", token)
        assert token not in tokens.read_text()
        assert proxy.request("GET", NIFTI, token=token)[0] == 502
        tokens.write_text("# nobody\n")
        assert proxy.request("GET", NIFTI, token=token)[0] == 401
        tokens.unlink()
        assert proxy.request("GET", NIFTI, token=token)[0] == 401
        assert (
            f"{tokens} cannot be read (No such file or directory), so nobody is let in"
            in proxy.log.read_text()
        )

        proxy.authority = other = trustme.CA()
        proxy.certify()
        with pytest.raises(ssl.SSLCertVerificationError):
            proxy.request("GET", "/healthz")
        other.cert_pem.write_to_path(proxy.ca)
        assert proxy.request("GET", "/healthz")[0] == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="a file of another user takes root to make")
def test_a_key_of_another_user_is_a_failed_health_check_and_a_line_in_the_log(nginx, authority):
    with Proxy(nginx, NOTHING_LISTENS, NOTHING_LISTENS, authority).running() as proxy:
        os.chown(proxy.secrets / "tls.key", 0, 0)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            proxy.request("GET", "/healthz")
        assert re.search(r"cannot load certificate key .*tls\.key.*Permission denied", proxy.log.read_text())
        os.chown(proxy.secrets / "tls.key", USER, USER)
        assert proxy.request("GET", "/healthz")[0] == 200


@pytest.mark.parametrize("arguments", [["al ice", "3"], ["alice", "0"], ["alice", "soon"], ["alice"]])
def test_no_token_for_a_slip(arguments, tmp_path):
    command = [SHIPPED / "add-token.sh", *arguments, *([tmp_path / "tokens"] if len(arguments) == 2 else [])]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    assert not (tmp_path / "tokens").exists()


def add_token(file, **environment):
    command = [SHIPPED / "add-token.sh", "alice", "3", file]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_a_token_has_a_line_of_its_own(tmp_path):
    """Also behind a last line that somebody has written without its end."""
    file = tmp_path / "tokens"
    for start in (None, "", "a bob 2099-01-01\n", "a bob 2099-01-01"):
        if start is not None:
            file.write_text(start)
        assert add_token(file).returncode == 0
        *before, last = file.read_text().split("\n")[:-1]
        assert before == (start or "").splitlines()
        assert re.fullmatch(r"[0-9a-f]{64} alice \d{4}-\d\d-\d\d", last)


def test_no_token_without_a_last_day(tmp_path):
    """As with a date that does not know the option."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "date").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "date").chmod(0o755)
    done = add_token(tmp_path / "tokens", PATH=f"{tmp_path}/bin:{os.environ['PATH']}")
    assert (done.returncode != 0, done.stdout) == (True, "")
    assert not (tmp_path / "tokens").exists()


def test_tls_only(proxy, alice, image, tmp_path):
    connection = http.client.HTTPConnection("localhost", proxy.port, timeout=20)
    connection.request("GET", NIFTI, headers={"Authorization": f"Bearer {alice}"})
    reply = connection.getresponse()
    assert reply.status == 400
    assert json.loads(reply.read()) == {"error": "a request that the proxy cannot read"}
    connection.close()
    stranger = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    for url in (proxy.rest_url, proxy.rpc_url):
        with (
            Client(url, token=alice, ca=stranger, deadline=2) as client,
            pytest.raises(SettingsError, match="no TLS connection"),
        ):
            client.segment(image)

"""A device behind a proxy, at an installation whose certificates are from a CA of its own.

The names of the installation are known to the proxy alone, and its certificates to nobody who is not told: what works
has gone through the one and trusted the other. Storage, the services and the endpoint are each behind TLS.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stack.demo import REPOSITORY
from stack.running import running_stack
from stack.services import Wiring, service_children
from stack.supervisor import Child
from syncline.model.identifiers import new_text_id
from syncline.s3.clock import ServerClock
from syncline.transfer.signed_requests import SignedRequests
from tests.support.passwords import STRONG

DOMAIN = "syncline.test"
NAMES = {name: f"{name}.{DOMAIN}" for name in ("files", "auth", "metadata", "notify", "storage")}
PASSWORD = STRONG
VARIABLES = ("https_proxy", "http_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def join(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until both are done."""
    back = threading.Thread(target=pump, args=(other, one), daemon=True)
    back.start()
    pump(one, other)
    back.join()
    one.close()
    other.close()


class Server:
    """Listens on a free port of loopback; each connection is on a thread of its own."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._safely, args=(connection,), daemon=True).start()

    def _safely(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection:
            self.serve(connection)

    def serve(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._listener.close()


class Tls(Server):
    """TLS in front of something without it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.behind = 0
        self._context = context
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        with self._context.wrap_socket(connection, server_side=True) as safe:
            join(safe, socket.create_connection(("127.0.0.1", self.behind)))


class Proxy(Server):
    """An HTTP proxy that knows where the names of the installation are, and notes who asks for what."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.credentials: set[str] = set()
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1) or b"\r\n\r\n"
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split(" ")
        host, _, port = target.partition(":")
        assert (method, host in NAMES.values()) == ("CONNECT", True)
        self.asked.append(host)
        named = (line.split(": ", 1) for line in lines if ": " in line)
        self.credentials |= {value for name, value in named if name.lower() == "proxy-authorization"}
        there = socket.create_connection(("127.0.0.1", int(port)))
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        join(connection, there)


@dataclass
class Installation:
    """Return the environment of a device."""

    endpoint: str
    storage: str
    proxy: Proxy
    certificates: Path
    homes: Path

    def device(self, home: str, *arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """A command of a device to which only these variables are told."""
        known = {name: value for name, value in os.environ.items() if name.lower() not in VARIABLES}
        return subprocess.run(
            [sys.executable, "-m", "syncline.cli", *arguments],
            env={**known, "SYNCLINE_HOME": str(self.homes / home), **variables},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=REPOSITORY,
        )

    def sign_up(self, home: str, **variables: str) -> subprocess.CompletedProcess[str]:
        arguments = ("--endpoint", self.endpoint, "--email", f"{home}@example.com", "--password-stdin")
        return self.device(home, "signup", *arguments, stdin=f"{PASSWORD}\n", **variables)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("proxy")
    certificates, context = certify(directory)
    fronts = {name: Tls(context) for name in NAMES}
    at = {name: f"{host}:{fronts[name].port}" for name, host in NAMES.items()}

    def children(wiring: Wiring) -> list[Child]:
        """The services, told by which names clients find them."""
        ports = wiring.ports
        behind = {name: getattr(ports, {"files": "gateway", "storage": "aws"}.get(name, name)) for name in NAMES}
        for name, front in fronts.items():
            front.behind = behind[name]
        told = {
            "SYNCLINE_PUBLIC_AUTH": at["auth"],
            "SYNCLINE_PUBLIC_METADATA": at["metadata"],
            "SYNCLINE_PUBLIC_NOTIFY": at["notify"],
            "SYNCLINE_PUBLIC_TLS": "true",
            "SYNCLINE_PUBLIC_S3_ENDPOINT": f"https://{at['storage']}",
        }
        return [dataclasses.replace(child, env={**child.env, **told}) for child in service_children(wiring)]

    proxy = Proxy()
    with running_stack(children=children):
        yield Installation(f"https://{at['files']}", f"https://{at['storage']}", proxy, certificates, directory)
    for server in (proxy, *fronts.values()):
        server.close()


def certify(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """The certificate of a CA, and what a server with a certificate of it shows."""

    def certificate(name: str, of: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey, *, ca: bool) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a CA of our own")]))
            .public_key(of.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(of.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
        )
        if not ca:
            made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(f"*.{DOMAIN}")]), critical=False)
        return made.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    trusted, shown = directory / "ca.pem", directory / "server.pem"
    trusted.write_bytes(certificate("a CA of our own", authority, authority, ca=True))
    key = server.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    shown.write_bytes(key + certificate(f"*.{DOMAIN}", server, authority, ca=False))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return trusted, context


@pytest.mark.parametrize(
    ("proxy", "certificates"),
    [
        ("HTTPS_PROXY", "SSL_CERT_FILE"),
        ("https_proxy", "ssl_cert_file"),
        ("ALL_PROXY", "SSL_CERT_DIR"),
        ("all_proxy", "ssl_cert_dir"),
    ],
)
def test_everything_goes_through_the_proxy_and_trusts_the_ca(
    installation: Installation, tmp_path: Path, proxy: str, certificates: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(b"content" * 100_000)
    trusted = installation.certificates
    if certificates.lower() == "ssl_cert_dir":
        (tmp_path / "ca").mkdir()
        (tmp_path / "ca" / "own.pem").write_bytes(trusted.read_bytes())
        trusted = tmp_path / "ca"
    variables = {proxy: f"http://ann:secret@127.0.0.1:{installation.proxy.port}", certificates: str(trusted)}
    installation.proxy.asked.clear()
    home = f"ann-{new_text_id()}"
    done = installation.sign_up(home, **variables)
    assert done.returncode == 0, done.stderr
    done = installation.device(home, "sync", str(folder), **variables)
    assert (done.returncode, "1 uploaded" in done.stdout) == (0, True), done.stdout + done.stderr
    assert set(installation.proxy.asked) == {NAMES[name] for name in ("files", "auth", "metadata", "storage")}
    assert installation.proxy.credentials == {f"Basic {base64.b64encode(b'ann:secret').decode()}"}
    assert "secret" not in done.stdout + done.stderr


def test_requests_that_are_signed_by_the_time_of_storage_go_the_same_way(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device with a wrong clock asks by requests of our own, and first what time it is."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://ann:secret@127.0.0.1:{installation.proxy.port}")
    monkeypatch.setenv("SSL_CERT_FILE", str(installation.certificates))

    clock = ServerClock()
    base = f"{installation.storage}/bucket/"
    signed = SignedRequests(base, region="eu-central-1", clock=clock)
    installation.proxy.asked.clear()
    installation.proxy.credentials.clear()
    signed.correct_clock()
    assert not clock.is_corrected
    assert installation.proxy.asked == [NAMES["storage"]]
    assert installation.proxy.credentials == {f"Basic {base64.b64encode(b'ann:secret').decode()}"}


def test_without_the_ca_nothing_is_trusted(installation: Installation) -> None:
    done = installation.sign_up("ben", HTTPS_PROXY=f"http://127.0.0.1:{installation.proxy.port}")
    assert done.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr, done.stderr


def test_what_is_excluded_is_not_asked_of_the_proxy(installation: Installation) -> None:
    variables = {
        "HTTPS_PROXY": f"http://127.0.0.1:{installation.proxy.port}",
        "SSL_CERT_FILE": str(installation.certificates),
    }
    assert installation.sign_up("carl", **variables).returncode == 0
    installation.proxy.asked.clear()
    for name in ("NO_PROXY", "no_proxy"):
        done = installation.device("carl", "ls", **variables, **{name: f".{DOMAIN}"})
        assert done.returncode == 1
        done = installation.sign_up(f"dora-{name}", **variables, **{name: f".{DOMAIN}"})
        assert done.returncode == 1
        assert "does not answer" in done.stderr
    assert installation.proxy.asked == []


def test_a_proxy_of_another_kind_is_said_plainly(installation: Installation) -> None:
    done = installation.sign_up("emil", ALL_PROXY="socks5://127.0.0.1:1080")
    assert (done.returncode, done.stderr) == (
        1,
        "syncline: ALL_PROXY names a proxy of the kind socks5; only http://host:port is supported; "
        "correct it or unset it\n",
    )

"""Service processes of our own over the embedded AWS: started, met over gRPC, killed when a test says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stack.running import EmbeddedAws
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.model.identifiers import new_request_id, new_text_id
from syncline.rpc.channel import sync_channel
from tests.support.passwords import STRONG

SERVICES = ("auth", "metadata", "notify")
SECRET = "a secret that all services of this test share"


@dataclass
class Process:
    """One service process. `target` is its gRPC address."""

    child: subprocess.Popen[str]
    target: str
    lines: list[str] = field(default_factory=list)

    def kill(self) -> None:
        self.child.kill()
        self.child.wait()

    def stop(self) -> None:
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            self.child.wait(60)


@contextmanager
def running(name: str, aws: EmbeddedAws, **variables: str) -> Iterator[Process]:
    """`python -m services.NAME`, or NAME as it is if it is no service, on a free port; stopped if it still runs."""
    resources = aws.resources
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "SYNCLINE_"))},
        **aws.environment(),
        "SYNCLINE_LISTEN": "127.0.0.1:0",
        "SYNCLINE_SERVICE_SECRET": SECRET,
        "SYNCLINE_SIGN_UP_POLICY": "open",
        "SYNCLINE_PROVE_ADDRESSES": "false",
        "SYNCLINE_MAIL_QUEUE_URL": resources.mail_queue_url,
        "SYNCLINE_DRAIN_SECONDS": "0",
        "SYNCLINE_AUDIT_TABLE": resources.audit_table_name,
        "SYNCLINE_IDENTITY_TABLE": resources.identity_table_name,
        "SYNCLINE_METADATA_TABLE": resources.metadata_table_name,
        "SYNCLINE_BUCKET": resources.bucket_name,
        "SYNCLINE_CHANGES_TOPIC_ARN": resources.changes_topic_arn,
        "SYNCLINE_TRANSFER_ROLE_ARN": resources.transfer_role_arn,
        **{f"SYNCLINE_{key.upper()}": value for key, value in variables.items()},
    }
    child = subprocess.Popen(
        [sys.executable, "-m", f"services.{name}" if name in SERVICES else name],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stderr is not None
    lines: list[str] = []
    process = None
    for line in child.stderr:
        lines.append(line)
        if line.startswith("{") and (event := json.loads(line))["event"] == "serving":
            process = Process(child, f"127.0.0.1:{event['port']}", lines)
            break
    if process is None:
        child.wait()
        raise AssertionError(f"{name} did not start: {''.join(lines)}")
    reader = threading.Thread(target=lines.extend, args=(child.stderr,), daemon=True)
    reader.start()
    try:
        yield process
    finally:
        process.stop()
        reader.join()
        child.stderr.close()


@dataclass(frozen=True)
class Person:
    """A signed-up user with one device."""

    email: str
    user: str
    token: str
    space: str


@dataclass
class System:
    """Auth and several metadata processes over one embedded AWS."""

    aws: EmbeddedAws
    auth: Process
    metadata: list[Process]

    def sign_up(self) -> Person:
        with sync_channel(self.auth.target) as channel:
            answer = AuthServiceStub(channel).SignUp(
                auth_pb2.SignUpRequest(email=f"{new_text_id()}@example.com", password=STRONG, device_name="test")
            )
        account = answer.account
        return Person(account.email, account.user_id, answer.tokens.access_token, account.personal_space_id)

    def new_space(self, owner: Person) -> str:
        with sync_channel(self.auth.target, authorization=lambda: owner.token) as channel:
            request = auth_pb2.CreateSpaceRequest(request_id=new_request_id(), name="shared")
            return AuthServiceStub(channel).CreateSpace(request).space.space_id


@contextmanager
def system(aws: EmbeddedAws, directory: Path, *, processes: int = 2, **variables: str) -> Iterator[System]:
    """Auth and `processes` metadata processes; `variables` are settings of all of them."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = directory / "signing-key.pem"
    key.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with ExitStack() as opened:
        auth = opened.enter_context(running("auth", aws, signing_key_file=str(key), **variables))
        metadata = [
            opened.enter_context(running("metadata", aws, auth_target=auth.target, **variables))
            for _ in range(processes)
        ]
        yield System(aws, auth, metadata)

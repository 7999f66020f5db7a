"""Start the service of this machine: fetch its secrets, then exec the service.

Secrets are never in user data, in a unit or on a disk. The secrets that `/etc/syncline/environment` names are read from
Secrets Manager with the machine's own role: SERVICE_SECRET_ID becomes SYNCLINE_SERVICE_SECRET, GATEWAY_SECRET_ID
becomes SYNCLINE_GATEWAY_SECRET, and SIGNING_SECRET_ID the key files of auth in RUNTIME_DIRECTORY, which is in memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_KEY_BYTES = 32
_INFO = b"syncline access token signing key"


def main() -> None:
    """Replace this process by that of the service that the variable SERVICE names. If a secret cannot be read, print
    the reason in one line and exit with status 1; systemd then starts this program again.
    """
    environment = dict(os.environ)
    service = environment["SERVICE"]
    try:
        _add_secrets(environment)
    except (BotoCoreError, ClientError) as error:
        raise SystemExit(f"cannot read the secrets of {service}: {error}") from None
    module = "gateway" if service == "gateway" else f"services.{service}"
    os.execve(sys.executable, [sys.executable, "-P", "-m", module], environment)  # noqa: S606  # that is the purpose


def _add_secrets(environment: MutableMapping[str, str]) -> None:
    client = botocore.session.get_session().create_client("secretsmanager", region_name=environment["AWS_REGION"])
    for name in ("SERVICE_SECRET", "GATEWAY_SECRET"):
        if f"{name}_ID" in environment:
            environment[f"SYNCLINE_{name}"] = _secret(client, environment[f"{name}_ID"])
    if "SIGNING_SECRET_ID" in environment:
        environment.update(_signing_keys(client, environment["SIGNING_SECRET_ID"], environment["RUNTIME_DIRECTORY"]))


def _signing_keys(client: Any, name: str, directory: str) -> Mapping[str, str]:
    """Write the key that signs, and a second key that only verifies: the next key (AWSPENDING), or the previous key if
    there is no next one. Return the environment variables that name the files.
    """
    files = {"SYNCLINE_SIGNING_KEY_FILE": _written(Path(directory, "signing-key.pem"), _secret(client, name))}
    for stage in ("AWSPENDING", "AWSPREVIOUS"):
        try:
            other = _secret(client, name, stage)
        except client.exceptions.ResourceNotFoundException:
            continue
        files["SYNCLINE_PREVIOUS_KEY_FILE"] = _written(Path(directory, "previous-key.pem"), other)
        break
    return files


def _secret(client: Any, name: str, stage: str = "AWSCURRENT") -> str:
    text: str = client.get_secret_value(SecretId=name, VersionStage=stage)["SecretString"]
    return text


def _written(path: Path, text: str) -> str:
    path.touch(mode=0o600)
    path.write_bytes(signing_key(text))
    return str(path)


def signing_key(text: str) -> bytes:
    """Return the Ed25519 private key, in PEM, that is derived from the random text of a secret. Equal texts give equal
    keys.
    """
    seed = HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=_INFO).derive(text.encode())
    return Ed25519PrivateKey.from_private_bytes(seed).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


if __name__ == "__main__":
    main()

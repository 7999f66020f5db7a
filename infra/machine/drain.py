"""Wait until Auto Scaling removes this machine; then stop the service in order and complete the removal.

The lifecycle hook `drain` delays the removal until this program completes it. The machine's metadata announce the
removal, so that this needs no queue, and no permission except that to complete the hook.
"""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any

import botocore.session
from botocore.exceptions import ClientError

HOOK = "drain"
_METADATA = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")
_POLL_SECONDS = float(os.environ.get("DRAIN_POLL_SECONDS", "5"))
_PATIENCE_SECONDS = 300  # the timeout of the hook
_REQUEST_SECONDS = 2


def main() -> None:
    while metadata("autoscaling/target-lifecycle-state") != "Terminated":
        time.sleep(_POLL_SECONDS)
    subprocess.run(["systemctl", "stop", "syncline.service"], check=True)
    _let_go(metadata("instance-id") or "")


def _let_go(instance: str) -> None:
    """Complete the lifecycle action, which can begin only after the load balancer has deregistered the machine."""
    client: Any = botocore.session.get_session().create_client("autoscaling", region_name=os.environ["AWS_REGION"])
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            client.complete_lifecycle_action(
                AutoScalingGroupName=os.environ["GROUP"],
                InstanceId=instance,
                LifecycleActionResult="CONTINUE",
                LifecycleHookName=HOOK,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError" or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return


def metadata(path: str) -> str | None:
    """Return the value at `path` of the metadata of this machine, or None if it does not exist."""
    try:
        token = _answer("PUT", "api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        return _answer("GET", f"meta-data/{path}", {"X-aws-ec2-metadata-token": token})
    except (urllib.error.URLError, TimeoutError):
        return None


def _answer(method: str, path: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(f"{_METADATA}/latest/{path}", headers=headers, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=_REQUEST_SECONDS) as answer:  # noqa: S310 - the address is ours
        text: str = answer.read().decode()
    return text


if __name__ == "__main__":
    main()

"""An innocent person at work: a few small things over and over, each timed. All must succeed."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import grpc

from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from syncline.model.identifiers import new_request_id
from tests.abuse.target import Scene
from tests.gateway.client import PASSWORD, Person

SECONDS: Final = 15.0
"""After which the innocent person has lost patience: an error."""
PAUSE_SECONDS: Final = 0.06
"""Between two things of one kind, so that the person alone does not keep the machine busy."""
SIGN_IN_PAUSE_SECONDS: Final = 1.0
PATHS: Final = 50
NETWORK: Final = "127.0.0.3"
"""The person's address; attackers over HTTP have another."""


@dataclass
class Samples:
    """The seconds that each action took, and the errors."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)


def p99(seconds: Sequence[float], *, pause: float) -> float:
    """The seconds that 99 of 100 moments at which the person might have begun would have had to wait at most.

    A person who waits begins nothing else meanwhile, so that a stop of seconds would be one sample among a hundred
    short ones, and nobody would see it. So each sample stands also for those that would have begun every `pause` while
    it lasted, as HdrHistogram does for "coordinated omission". Of fewer than 100 it is the longest.
    """
    moments = sorted(waited for one in seconds for waited in _moments(one, pause))
    return moments[max(0, math.ceil(len(moments) * 0.99) - 1)]


def _moments(seconds: float, pause: float) -> Iterator[float]:
    yield seconds
    for number in range(1, int(seconds / pause)):
        yield seconds - number * pause


def usual_p99(times: Sequence[Samples], kind: str) -> float:
    """The p99 of one kind of work in the median of these quiet times.

    All their samples together would measure the worst of them: the work that an attack has left behind lasts into a
    quiet time, and each later attack would be compared with that time.
    """
    return median(p99(samples.seconds[kind], pause=pause_of(kind)) for samples in times)


def pause_of(kind: str) -> float:
    """The seconds between two things of this kind."""
    return SIGN_IN_PAUSE_SECONDS if kind == "sign_in" else PAUSE_SECONDS


class Innocent:
    """The person of a scene, with connections that stay open, as those of the clients do."""

    def __init__(self, scene: Scene) -> None:
        target, self._person = scene.target, scene.innocent
        self._target = target
        self._channel = grpc.insecure_channel(f"{target.host}:{target.ports['metadata']}")
        self._metadata = MetadataServiceStub(self._channel)
        root = self._person.done("GET", f"{self._person.top}/nodes/root/children")["nodes"]
        self._file = next(node["id"] for node in root if node["name"] == "0.txt")
        password = base64.b64encode(f"{self._person.email}:{scene.key}".encode()).decode()
        self._basic = {"authorization": f"Basic {password}"}
        self._numbers = itertools.count()

    def close(self) -> None:
        """End the connections."""
        self._channel.close()

    @property
    def _authorization(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", self._person.headers["authorization"]),)

    @property
    def person(self) -> Person:
        return self._person

    @contextmanager
    def at_work(self) -> Iterator[Samples]:
        """Do everything at once while the block lasts; the samples are whole at its end."""
        samples, stop = Samples(), threading.Event()
        kinds = (self.check, self.download, self.commit, self.save, self.sign_in)
        threads = [threading.Thread(target=self._repeat, args=(kind, samples, stop)) for kind in kinds]
        for thread in threads:
            thread.start()
        try:
            yield samples
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _repeat(self, kind: Callable[[], None], samples: Samples, stop: threading.Event) -> None:
        pause = pause_of(kind.__name__)
        while True:
            began = time.monotonic()
            try:
                kind()
            except (AssertionError, OSError, http.client.HTTPException, grpc.RpcError) as error:
                samples.errors.append(f"{kind.__name__}, after {time.monotonic() - began:.1f} s: {error!r}"[:500])
            samples.seconds[kind.__name__].append(time.monotonic() - began)
            if stop.wait(pause):
                return

    # ---- what the person does

    def check(self) -> None:
        """Compare fifty paths with the space, as a sync does."""
        opening = metadata_pb2.CheckVersionsRequest(open=metadata_pb2.CheckVersionsOpen(space_id=self._person.space))
        batch = metadata_pb2.CheckVersionsBatch(paths=[f"{n}.txt" for n in range(PATHS)], digests=bytes(32 * PATHS))
        asked = iter([opening, metadata_pb2.CheckVersionsRequest(batch=batch)])
        answers = list(self._metadata.CheckVersions(asked, metadata=self._authorization, timeout=SECONDS))
        assert answers[-1].complete
        assert len(answers[0].indexes) == PATHS

    def download(self) -> None:
        """Read a small file by the gateway."""
        body = self._ask("GET", f"{self._person.top}/nodes/{self._file}/content", expected=200)
        assert body == b"some bytes, 0"

    def commit(self) -> None:
        """Make a directory in the space that the attacker shares."""
        request = metadata_pb2.CommitChangesRequest(space_id=self._target.shared, request_id=new_request_id())
        create = metadata_pb2.CreateNode(
            parent=bytes(16), name=f"innocent {next(self._numbers)}", kind=journal_pb2.NODE_KIND_DIRECTORY
        )
        request.mutations.add().create.CopyFrom(create)
        answer = self._metadata.CommitChanges(request, metadata=self._authorization, timeout=SECONDS)
        assert answer.seq, answer

    def save(self) -> None:
        """Save a document over WebDAV."""
        name = f"/dav/personal/{next(self._numbers) % 10}.doc"
        self._ask("PUT", name, b"saved", expected=(201, 204), headers=self._basic)

    def sign_in(self) -> None:
        """Sign in at a new device, and end it: whoever signs in at too many devices loses the one used longest ago."""
        body = f'{{"email": "{self._person.email}", "password": "{PASSWORD}", "device_name": "laptop"}}'.encode()
        answer = self._ask("POST", "/v1/sessions", body, expected=201, headers={"content-type": "application/json"})
        headers = {"authorization": f"Bearer {json.loads(answer)['tokens']['access_token']}"}
        self._ask("DELETE", "/v1/session", None, expected=204, headers=headers)

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        expected: int | tuple[int, ...],
        headers: dict[str, str] | None = None,
    ) -> bytes:
        host, port = self._target.gateway
        connection = http.client.HTTPConnection(host, port, timeout=SECONDS, source_address=(NETWORK, 0))
        try:
            connection.request(method, path, body, self._person.headers if headers is None else headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        expected = (expected,) if isinstance(expected, int) else expected
        assert response.status in expected, (method, path, response.status, answer[:300])
        return answer

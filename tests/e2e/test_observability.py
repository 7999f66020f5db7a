"""A real system tells what it does: its metrics move with what is done, and a sync is one trace through processes."""

import dataclasses
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from benchmarks.trace import Collector, render
from runtime.interruption import ASK_SECONDS
from stack.demo import DemoDevice
from stack.running import running_stack
from stack.up import Stack
from syncline.model.identifiers import new_text_id
from tests.e2e.observing import Scrape, eventually, logged, scrape, texts
from tests.runtime.echo import connect_sync
from tests.support.passwords import STRONG

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = STRONG
FILE = "the plan for Mallorca.txt"
SPACE = "Holidays of the Miller family"

NOT_ON_THE_DASHBOARD = {
    "syncline_content_memory_bytes": "a limit of one process, looked at when downloads stall",
    "syncline_events_heard": "what doorbells are made of; the dashboard has these",
    "syncline_journal_bytes": "for planning capacity, not for watching",
    "syncline_proofs": "follows sign-ups; looked at when mails do not arrive",
    "syncline_password_changes": "rare; looked at when somebody asks",
    "syncline_resets": "rare; looked at when mails do not arrive",
    "syncline_second_factors": "rare; looked at when somebody guesses codes",
    "syncline_search_size": "bounded; for sizing memory",
    "syncline_sign_ups": "business, not operation",
    "syncline_view_size": "follows spaces in memory; for sizing SYNCLINE_CACHED_NODES",
}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector, pytest.MonkeyPatch.context() as patch:
        for name, value in collector.variables.items():
            patch.setenv(name, value)  # for the command line; the stack hands them on to the services
        yield collector


@pytest.fixture(scope="module")
def stack(collector: Collector) -> Iterator[Stack]:
    variables = {"SYNCLINE_METRICS_LISTEN": "127.0.0.1:0", "SYNCLINE_LOG_FORMAT": "json"}
    with running_stack(variables=variables) as stack:
        yield stack


def sign(device: DemoDevice, stack: Stack, verb: str, *, expect: int = 0, password: str = PASSWORD) -> None:
    device.run(
        verb,
        *("--endpoint", stack.endpoint, "--email", device.email, "--password-stdin"),
        stdin=f"{password}\n",
        expect=expect,
    )
    device.folder.mkdir(parents=True, exist_ok=True)


@pytest.fixture
def ann(stack: Stack, tmp_path: Path) -> DemoDevice:
    """Signed up, with a space that she shares with Ben."""
    ann = DemoDevice(f"ann-{new_text_id()}", "laptop", tmp_path / "ann")
    ben = DemoDevice(f"ben-{new_text_id()}", "notebook", tmp_path / "ben")
    for device in (ann, ben):
        sign(device, stack, "signup")
    ann.run("spaces", "create", SPACE)
    ann.run("share", SPACE, ben.email, "--role", "editor")
    return ann


def test_a_sync_moves_the_figures_that_it_should(stack: Stack, ann: DemoDevice) -> None:
    before = eventually(stack, lambda now: now.total("syncline_outbox_entries") == 0)
    (ann.folder / FILE).write_text("swim, sleep, swim")
    (ann.folder / "photo.raw").write_bytes(bytes(range(256)) * 8192)
    ann.sync("--space", SPACE)

    def moved(name: str, after: Scrape, **labels: str) -> float:
        return after.total(name, **labels) - before.total(name, **labels)

    after = eventually(
        stack,
        lambda now: (
            moved("syncline_mails_total", now, outcome="sent") == 1
            and moved("syncline_projected_entries_total", now) > 0
            and now.total("syncline_outbox_entries") == 0
        ),
    )
    assert moved("syncline_commits_total", after) == 1
    assert moved("syncline_journal_entries_total", after) == 1
    assert moved("syncline_projected_entries_total", after) == 1
    assert moved("syncline_mutations_total", after, verdict="ACCEPTED") == 2
    assert moved("syncline_mutations_total", after) == 2
    assert moved("syncline_objects_declared_total", after, verdict="SEALED") == 2
    assert moved("syncline_announcements_total", after) == 1
    assert moved("syncline_mails_total", after, outcome="sent") == 1
    assert moved("syncline_credentials_issued_total", after, access="write", source="sts") == 1
    assert moved("syncline_view_uses_total", after, outcome="miss") == 1
    assert after.total("syncline_spaces_in_memory") >= 1
    assert after.total("syncline_outbox_age_seconds") == 0

    commit = "syncline.metadata.v1.MetadataService/CommitChanges"
    assert moved("syncline_rpcs_total", after, method=commit, code="OK") == 1
    assert moved("syncline_rpc_seconds_count", after, method=commit) == 1
    changes = "syncline.metadata.v1.MetadataService/ListChanges"
    assert moved("syncline_rpcs_total", after, method=changes, code="OK") >= 1
    assert moved("syncline_rpc_seconds_count", after, method=changes) == 0, "streams are not mixed with unary calls"
    assert after.total("syncline_open_streams", method=changes) == 0

    assert moved("syncline_aws_calls_total", after, service="dynamodb", operation="PutItem", outcome="ok") >= 1
    assert moved("syncline_aws_calls_total", after, service="sns", operation="Publish", outcome="ok") == 1
    assert moved("syncline_aws_calls_total", after, service="sesv2", operation="SendEmail", outcome="ok") == 1
    listed = moved("syncline_aws_calls_total", after, service="s3", operation="ListObjectsV2")  # to measure uploads
    assert moved("syncline_aws_calls_total", after, service="s3", outcome="ok") - listed == 2
    assert moved("syncline_aws_seconds_count", after, service="sts", operation="AssumeRole") == 1
    assert moved("syncline_dynamodb_units_total", after, operation="PutItem") > 0
    assert after.total("process_resident_memory_bytes") > 0


def test_a_right_is_asked_for_once_a_plan_and_once_a_commit(stack: Stack, ann: DemoDevice) -> None:
    """However many files they are about. Whoever has nothing to do has auth asked for what is remembered no more."""
    service = "syncline.metadata.v1.MetadataService"

    def calls(method: str) -> float:
        return now.total("syncline_rpcs_total", method=method) - before.total("syncline_rpcs_total", method=method)

    ann.sync("--space", SPACE)
    for number in range(2_000):
        (ann.folder / f"{number}").write_text(f"{number}")
    before, began = scrape(stack), time.monotonic()
    ann.sync()
    now, seconds = scrape(stack), time.monotonic() - began
    assert 2 <= calls(f"{service}/CommitChanges") <= 3
    asked, known = calls("syncline.auth.v1.AuthService/CheckAccess"), calls(f"{service}/CommitChanges")
    # A test that lasts longer, as on a busy machine, asks again: streams by themselves, and calls when answers expire.
    assert known < asked <= known + 3 + 2 * (seconds // ASK_SECONDS)

    ann.sync()
    before = scrape(stack)
    ann.sync()
    now = scrape(stack)
    assert calls(f"{service}/ListChanges") == 1
    assert calls("syncline.auth.v1.AuthService/CheckAccess") <= 1


def test_refusals_downloads_and_strangers_are_counted_too(stack: Stack, ann: DemoDevice) -> None:
    (ann.folder / FILE).write_text("x" * 70_000)
    ann.sync("--space", SPACE)
    before = scrape(stack)
    ann.run("mkdir", f"{SPACE}:{FILE}", expect=1)
    elsewhere = dataclasses.replace(ann, root=ann.root / "elsewhere")
    sign(elsewhere, stack, "login", expect=3, password="not her password")
    token = json.loads((ann.root / "home" / "account.json").read_text())["access_token"]
    space = next(one for one in json.loads(ann.run("spaces", "list", "--json"))["spaces"] if one["name"] == SPACE)
    url = f"{stack.endpoint}/v1/spaces/{space['space']}/content/{urllib.parse.quote(FILE)}"
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert len(answer.read()) == 70_000

    def downloaded(now: Scrape) -> float:
        """Bytes of contents in answers that have ended."""
        return now.total("syncline_http_bytes_sent_total", route="content")

    after = eventually(stack, lambda now: downloaded(now) >= downloaded(before) + 70_000)
    assert after.total("syncline_mutations_total", verdict="NAME_TAKEN") == (
        before.total("syncline_mutations_total", verdict="NAME_TAKEN") + 1
    )
    assert after.total("syncline_sign_ins_total", outcome="failed") == (
        before.total("syncline_sign_ins_total", outcome="failed") + 1
    )
    assert after.total("syncline_http_requests_total", route="content", status="200") == (
        before.total("syncline_http_requests_total", route="content", status="200") + 1
    )
    assert downloaded(after) == downloaded(before) + 70_000


def test_no_label_says_anything_about_a_user_and_nobody_can_make_series_up(stack: Stack, ann: DemoDevice) -> None:
    (ann.folder / FILE).write_text("swim")
    ann.sync("--space", SPACE)
    eventually(stack, lambda now: now.total("syncline_outbox_entries") == 0)
    for verb, path in (("GET", "/no/such/page"), ("GET", "/v1/spaces/x/content/a b.txt"), ("BREW", "/healthz")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(f"{stack.endpoint}{urllib.parse.quote(path)}", method=verb))
        refused.value.close()
    with connect_sync(f"127.0.0.1:{stack.ports.metadata}") as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/made.up.Service/Method")(b"", timeout=60)

    known = {"ann-", "ben-", "@", "Mallorca", "txt", "Miller", "laptop", "such", "BREW", "made", "a b", "a%20b"}
    for process, text in texts(stack).items():
        labels = re.findall(r'="([^"]*)"', "\n".join(line for line in text.splitlines() if line.startswith("syncline")))
        for label in set(labels):
            assert not any(part in label for part in known), f"{process} tells {label!r}"
            assert not re.fullmatch(r"[0-9a-z]{26}|[0-9a-f]{32}|[0-9a-f]{64}", label), (
                f"{process} tells an id: {label!r}"
            )


def queried(dashboard: object) -> set[str]:
    """The metrics in all expressions of a dashboard."""
    if isinstance(dashboard, dict):
        own = re.findall(r"\b((?:syncline|process)_\w+)", dashboard["expr"]) if "expr" in dashboard else []
        return set(own).union(*map(queried, dashboard.values()))
    if isinstance(dashboard, list):
        return set().union(*map(queried, dashboard))
    return set()


def test_the_dashboard_asks_for_what_there_is_and_for_all_of_it(stack: Stack, ann: DemoDevice) -> None:
    (ann.folder / FILE).write_text("swim")
    ann.sync("--space", SPACE)
    said = "\n".join(texts(stack).values())
    kinds = dict(re.findall(r"^# TYPE (syncline\w+|process\w+) (\w+)$", said, re.MULTILINE))
    # A counter with labels has no sample before it counts; but it is there.
    families = {
        name: [name] if kind != "histogram" else [f"{name}_{part}" for part in ("bucket", "sum", "count")]
        for name, kind in kinds.items()
    }
    there = {sample for samples in families.values() for sample in samples}
    asked = queried(json.loads((ROOT / "infra" / "grafana" / "syncline.json").read_text()))
    assert asked <= there, f"no process has {sorted(asked - there)}"
    ours = {name for name in families if name.startswith("syncline")}
    told = {name for name, samples in families.items() if asked & set(samples)}
    unwatched = {name.removesuffix("_total") for name in ours - told}
    assert unwatched == set(NOT_ON_THE_DASHBOARD)
    explained = set(re.findall(r"`(syncline_\w+)", (ROOT / "docs" / "operate.md").read_text()))
    assert explained == ours


def test_a_sync_is_one_tree_through_every_process(stack: Stack, collector: Collector, ann: DemoDevice) -> None:
    (ann.folder / FILE).write_text("swim, sleep, swim")
    (ann.folder / "list.txt").write_text("towel")
    (ann.folder / "photo.raw").write_bytes(bytes(range(256)) * 8192)
    ann.sync("--space", SPACE)
    leaves = [
        "DynamoDB.BatchGetItem",
        "DynamoDB.PutItem",
        "S3.GetObject",
        "SES.SendEmail",
        "SNS.Publish",
        "STS.AssumeRole",
    ]
    spans = collector.trace("sync", until=["mail", "project", *leaves])
    tree = render(spans)

    by_id = {span.id: span for span in spans}
    assert len({span.trace for span in spans}) == 1
    assert len([span for span in spans if not span.parent]) == 1
    assert all(span.parent in by_id for span in spans if span.parent)
    paths = defaultdict(list)
    for span in spans:
        path, above = [f"{span.service}:{span.name}"], span
        while above.parent:
            above = by_id[above.parent]
            path.append(f"{above.service}:{above.name}")
        paths[span.name].append(" < ".join(path))

    def has(*steps: str) -> bool:
        """Return True if some span has these among its ancestors, in this order, itself first."""
        inside = re.compile(".* < .*".join(re.escape(step) for step in steps))
        return any(inside.search(path) for found in paths.values() for path in found)

    client, metadata, auth, notify = (f"syncline{name}" for name in ("", "-metadata", "-auth", "-notify"))
    for stage in ("pull", "scan", "plan", "transfer up", "transfer down"):
        assert has(f"{client}:{stage}", f"{client}:sync"), tree
    commit = "syncline.metadata.v1.MetadataService/CommitChanges"
    assert has(f"{metadata}:DynamoDB.PutItem", f"{metadata}:append", f"{metadata}:{commit}", f"{client}:{commit}"), tree
    assert has(f"{client}:{commit}", f"{client}:commit", f"{client}:transfer up", f"{client}:sync"), tree
    assert has(f"{client}:S3.PutObject", f"{client}:transfer up"), tree
    seal = "syncline.metadata.v1.MetadataService/SealObjects"
    assert has(f"{metadata}:S3.GetObject", f"{metadata}:{seal}", f"{client}:{seal}"), tree
    issue = "syncline.auth.v1.AuthService/IssueCredentials"
    assert has(f"{auth}:STS.AssumeRole", f"{auth}:{issue}", f"{client}:{issue}"), tree
    check = "syncline.auth.v1.AuthService/CheckAccess"
    assert has(f"{auth}:DynamoDB.BatchGetItem", f"{auth}:{check}", f"{metadata}:{check}"), tree
    assert has(f"{metadata}:SNS.Publish", f"{metadata}:project", f"{metadata}:append"), tree
    assert has(f"{notify}:SES.SendEmail", f"{notify}:mail", f"{metadata}:project"), tree
    assert not any(span.failed for span in spans), tree
    told = json.dumps([(span.name, span.attributes) for span in spans])
    assert not any(secret in told for secret in ("Mallorca", "Miller", "@example.com", ann.owner))

    (event,) = logged(stack, "metadata", lambda event: spans[0].trace in str(event) and commit in str(event))
    assert by_id[event["span_id"]].name == commit


def test_downloads_through_the_gateway_are_traced_when_the_caller_traces(
    stack: Stack, collector: Collector, ann: DemoDevice
) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    request = urllib.request.Request(
        f"{stack.endpoint}/.well-known/jwks.json", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
    # Each process sends its spans when it likes: the gateway's, which ends last, may come after those below it.
    (keys,) = collector.until(
        lambda spans: [span for span in spans if span.trace == trace and not span.failed and span.name == "http keys"]
    )
    assert (keys.service, keys.parent) == ("syncline-gateway", "b7ad6b7169203331")

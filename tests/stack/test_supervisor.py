"""With real processes: what is started stays up, what is stopped leaves nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from stack.errors import StartFailed
from stack.output import Output
from stack.supervisor import Child, Supervisor

DEADLINE = 60.0


async def eventually(condition: Callable[[], object], seconds: float = DEADLINE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Programs:
    """Small programs to supervise; each is ready once it has called `ready()`, which makes a file of its name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def child(self, name: str, body: str = "ready(); time.sleep(60)", **options: object) -> Child:
        mark = self.directory / name
        start = f"""
            import os, pathlib, signal, subprocess, sys, time
            directory, name = pathlib.Path({str(self.directory)!r}), {name!r}
            def ready():
                (directory / name).touch()
        """
        program = textwrap.dedent(start) + textwrap.dedent(body)

        async def ready() -> bool:
            return mark.exists()

        argv = (sys.executable, "-c", program)
        return Child(name=name, argv=argv, env=dict(os.environ), ready=ready, **options)  # type: ignore[arg-type]


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


@pytest.fixture
def output(tmp_path: Path):
    with Output(tmp_path / "logs", terminal=None) as output:
        yield output


async def test_a_child_has_a_process_group_of_its_own_in_the_session_of_the_stack(
    programs: Programs, output: Output
) -> None:
    """The terminal's Ctrl-C does not reach it, and its niceness counts beside the other children."""
    async with Supervisor(output) as supervisor:
        await supervisor.start(programs.child("one"), within=DEADLINE)
        pid = supervisor.pids["one"]
        assert os.getsid(pid) == os.getsid(0)
        assert os.getpgid(pid) == pid


async def test_a_child_that_ends_is_started_again(programs: Programs, output: Output) -> None:
    async with Supervisor(output, first_delay=0.01) as supervisor:
        await supervisor.start(programs.child("one"), within=DEADLINE)
        for _ in range(2):
            first = supervisor.pids["one"]
            os.kill(first, signal.SIGKILL)
            await eventually(lambda first=first: supervisor.pids["one"] != first)  # type: ignore[misc]
        assert any("was ended by SIGKILL; starting it again in 0.01 s" in line for line in output.last_lines("stack"))
        assert any("starting it again in 0.02 s" in line for line in output.last_lines("stack"))


async def test_a_child_that_was_told_to_end_is_not_kept_waiting(programs: Programs, output: Output) -> None:
    leaving = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); ready(); time.sleep(60)"
    async with Supervisor(output, first_delay=0.01) as supervisor:
        await supervisor.start(programs.child("one", leaving), within=DEADLINE)
        for _ in range(3):
            first = supervisor.pids["one"]
            (programs.directory / "one").unlink()
            os.kill(first, signal.SIGTERM)
            await eventually(lambda first=first: supervisor.pids["one"] != first)  # type: ignore[misc]
            await eventually((programs.directory / "one").exists)
        told = [line for line in output.last_lines("stack") if "starting it again" in line]
        assert told == ["one ended with status 0; starting it again in 0.01 s"] * 3


async def test_a_child_that_says_that_it_is_hopeless_is_a_failure(programs: Programs, output: Output) -> None:
    said_at_sigterm = "signal.signal(signal.SIGTERM, lambda *_: exit(3)); ready(); time.sleep(60)"
    async with Supervisor(output) as supervisor:
        await supervisor.start(programs.child("aws", said_at_sigterm, hopeless=3), within=DEADLINE)
        os.kill(supervisor.pids["aws"], signal.SIGTERM)
        failure = await asyncio.wait_for(supervisor.failure(), DEADLINE)
        assert str(failure) == "aws ended with status 3"


async def test_a_child_that_ends_before_it_is_ready_is_reported_with_its_last_words(
    programs: Programs, output: Output
) -> None:
    child = Child("broken", (sys.executable, "-c", "print('no such table'); exit(3)"), dict(os.environ), _never)
    async with Supervisor(output) as supervisor:
        with pytest.raises(StartFailed, match=r"(?s)broken did not start: it ended with status 3.*no such table"):
            await supervisor.start(child, within=DEADLINE)


async def test_a_child_that_ends_before_it_is_ready_is_started_again(tmp_path: Path, output: Output) -> None:
    """A service whose credentials came late ends so."""
    once, ready = tmp_path / "once", tmp_path / "ready"
    program = "import pathlib, sys, time; one, ready = map(pathlib.Path, sys.argv[1:])\n"
    program += "if not one.exists(): one.touch(); exit(1)\n"
    program += "ready.touch(); time.sleep(60)"

    async def is_ready() -> bool:
        return ready.exists()

    child = Child("late", (sys.executable, "-c", program, str(once), str(ready)), dict(os.environ), is_ready)
    async with Supervisor(output, first_delay=0.1) as supervisor:
        await supervisor.start(child, within=DEADLINE)
        assert psutil.pid_exists(supervisor.pids["late"])


async def test_a_child_that_is_never_ready_is_given_up(programs: Programs, output: Output) -> None:
    async with Supervisor(output) as supervisor:
        with pytest.raises(StartFailed, match=r"not ready after 0\.2 s"):
            await supervisor.start(Child("slow", ("sleep", "60"), dict(os.environ), _never), within=0.2)
        pid = supervisor.pids["slow"]
    assert not alive(pid)


async def test_children_stop_in_reverse_order(programs: Programs, output: Output, tmp_path: Path) -> None:
    note = """
        def stop(*_):
            with open(directory / "order", "a") as file:
                print(name, file=file)
            sys.exit()
        signal.signal(signal.SIGTERM, stop)
        ready()
        time.sleep(60)
    """
    names = ["first", "second", "third"]
    async with Supervisor(output) as supervisor:
        children = [programs.child(name, note) for name in names]
        await supervisor.start(*children, within=DEADLINE)
    assert (tmp_path / "order").read_text().split() == ["third", "second", "first"]
    assert not supervisor.pids


async def test_what_ignores_the_signal_is_killed_with_all_it_started(
    programs: Programs, output: Output, tmp_path: Path
) -> None:
    stubborn = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        inner = subprocess.Popen(["sleep", "60"])
        (directory / "inner").write_text(str(inner.pid))
        ready()
        time.sleep(60)
    """
    async with Supervisor(output) as supervisor:
        await supervisor.start(programs.child("stubborn", stubborn, stop_seconds=0.1), within=DEADLINE)
        outer, inner = supervisor.pids["stubborn"], int((tmp_path / "inner").read_text())
    assert not alive(outer)
    await eventually(lambda: not alive(inner))
    assert "stubborn did not stop within 0.1 s; killing it" in output.last_lines("stack")


async def test_cancelling_the_stop_kills_what_is_left(programs: Programs, output: Output) -> None:
    stubborn = programs.child("stubborn", "signal.signal(signal.SIGTERM, signal.SIG_IGN); ready(); time.sleep(60)")
    supervisor = Supervisor(output)
    await supervisor.start(stubborn, programs.child("other"), within=DEADLINE)
    pids = list(supervisor.pids.values())
    stopping = asyncio.create_task(supervisor.stop())
    await eventually(lambda: not alive(pids[1]))
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert not any(alive(pid) for pid in pids)


@pytest.mark.parametrize("rounds", range(6))
async def test_a_cancellation_counts_in_the_moment_in_which_a_child_ends(
    programs: Programs, output: Output, rounds: int
) -> None:
    """`rounds` of the loop after the end of one child, the stop waits for another one, or is about to."""
    stubborn = programs.child("stubborn", "signal.signal(signal.SIGTERM, signal.SIG_IGN); ready(); time.sleep(60)")
    supervisor = Supervisor(output)
    await supervisor.start(stubborn, programs.child("other"), within=DEADLINE)
    other = supervisor._running["other"].process
    stopping = asyncio.create_task(supervisor.stop())
    while other.returncode is None:
        await asyncio.sleep(0)
    for _ in range(rounds):
        await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert not supervisor.pids


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children")
async def test_nothing_is_left_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    program = """
        import asyncio, os, pathlib, signal, sys
        from stack.output import Output
        from stack.supervisor import Child, Supervisor

        directory = pathlib.Path(sys.argv[1])

        async def ready():
            return (directory / "ready").exists()

        async def main():
            supervisor = Supervisor(Output(directory, terminal=None))
            environ = dict(os.environ)
            await supervisor.start(
                Child("one", ("sleep", "60"), environ, ready),
                Child("two", ("sh", "-c", f"touch {directory}/ready; sleep 60"), environ, ready),
                within=60,
            )
            print(*supervisor.pids.values(), flush=True)
            await asyncio.sleep(60)

        asyncio.run(main())
    """
    with subprocess.Popen(  # noqa: ASYNC220  # awaited by polling
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
        await eventually(lambda: not any(alive(pid) for pid in pids))


async def test_all_output_reaches_the_log_whatever_its_form(programs: Programs, output: Output, tmp_path: Path) -> None:
    talk = r"""
        sys.stdout.buffer.write(b"short\n" + b"x" * 200_000 + b"\n\xff\xfe not text\nno end of line")
        sys.stdout.flush()
        print("an error", file=sys.stderr)
        ready()
        time.sleep(60)
    """
    async with Supervisor(output) as supervisor:
        await supervisor.start(programs.child("talker", talk), within=DEADLINE)
        log = tmp_path / "logs" / "talker.log"
        await eventually(lambda: log.exists() and "an error" in log.read_text())
    lines = log.read_text().splitlines()
    assert lines == ["short", "x" * 200_000, "\ufffd\ufffd not text", "no end of linean error"]


def test_the_log_of_the_previous_run_is_kept(tmp_path: Path) -> None:
    for run in ("one", "two", "three"):
        with Output(tmp_path, terminal=None) as output:
            output.line("auth", run)
    assert (tmp_path / "auth.log").read_text() == "three\n"
    assert (tmp_path / "auth.log.1").read_text() == "two\n"


async def test_the_logs_of_a_child_that_talks_without_end_have_a_bound(programs: Programs, tmp_path: Path) -> None:
    talk = """
        for number in range(20_000):
            print(number, "x" * 90)
        print("the end", flush=True)
        ready()
        time.sleep(60)
    """
    log, older = tmp_path / "talker.log", tmp_path / "talker.log.1"
    with Output(tmp_path, terminal=None, max_log_bytes=100_000) as output:
        async with Supervisor(output) as supervisor:
            await supervisor.start(programs.child("talker", talk), within=DEADLINE)
            await eventually(lambda: "the end" in output.last_lines("talker"))
    assert {path.name for path in tmp_path.glob("talker.log*")} == {log.name, older.name}
    assert max(log.stat().st_size, older.stat().st_size) <= 100_000
    assert {path.stat().st_mode & 0o777 for path in (log, older)} == {0o600}
    *lines, end = [line.split()[0] for path in (older, log) for line in path.read_text().splitlines()]
    assert end == "the"
    assert lines == [str(number) for number in range(20_000 - len(lines), 20_000)]
    assert len(lines) > 100_000 // 100


def test_a_reader_who_follows_the_name_of_a_log_reads_each_line_once(tmp_path: Path) -> None:
    """A reader who finds that the name is another file's reads the opened file to its end, and then opens the other."""
    path, read, renames = tmp_path / "auth.log", list[str](), 0
    with Output(tmp_path, terminal=None, max_log_bytes=50) as output:
        output.line("auth", "0")
        followed = path.open()
        for number in range(1, 200):
            output.line("auth", str(number))
            renamed = not os.path.samestat(path.stat(), os.fstat(followed.fileno()))
            read += followed.read().splitlines()
            if renamed:
                followed.close()
                followed = path.open()
                read += followed.read().splitlines()
                renames += 1
        followed.close()
    assert renames > 10
    assert read == [str(number) for number in range(200)]


def test_a_line_longer_than_a_log_has_a_file_of_its_own(tmp_path: Path) -> None:
    with Output(tmp_path, terminal=None, max_log_bytes=10) as output:
        for line in ("one", "2" * 20, "three"):
            output.line("auth", line)
        assert (tmp_path / "auth.log.1").read_text() == "2" * 20 + "\n"
        assert (tmp_path / "auth.log").read_text() == "three\n"


def test_a_log_continues_after_a_rotation_that_failed(tmp_path: Path) -> None:
    (tmp_path / "auth.log.1").mkdir()  # a file cannot replace a directory
    with Output(tmp_path, terminal=None, max_log_bytes=10) as output:
        output.line("auth", "first one")
        output.line("auth", "is lost")
        (tmp_path / "auth.log.1").rmdir()
        output.line("auth", "next")
    assert (tmp_path / "auth.log.1").read_text() == "first one\n"
    assert (tmp_path / "auth.log").read_text() == "next\n"


def test_a_log_that_another_program_empties_continues_at_its_beginning(tmp_path: Path) -> None:
    with Output(tmp_path, terminal=None) as output:
        output.line("auth", "before")
        os.truncate(tmp_path / "auth.log", 0)
        output.line("auth", "after")
    assert (tmp_path / "auth.log").read_text() == "after\n"


async def _never() -> bool:
    return False

"""A server process of our own on loopback, that does not outlive whoever started it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

# Reads until the starting process is gone, however it ended, then ends the server.
_GUARD = 'cat >/dev/null; kill -s "$1" "$2" 2>/dev/null; shift 2; test $# -eq 0 || rm -rf -- "$@"'


STOP_SECONDS = 10
"""How long a run may take to end when it is told to."""
KILL_SECONDS = 5


class ServerError(RuntimeError):
    """A server is not installed, could not be made, or did not answer in time; says what to do."""


class ServerProcess:
    """A running server program. It ends with `stop`, or when this process ends in whatever way."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        folder: Path | None = None,
        user: str | None = None,
        stop_signal: str = "TERM",
        environment: Mapping[str, str] | None = None,
        leftovers: Sequence[Path] = (),
    ) -> None:
        """Starts it in `folder`, or that of its `log`, as another `user` if need be.

        `stop_signal` asks it to end, KILL where nothing it holds is worth a shutdown. `leftovers`
        are what it leaves behind, removed even when this process is killed.
        """
        self._stop_signal = stop_signal
        self._leftovers = leftovers
        self._log = log
        with log.open("ab") as output:
            # A session of its own: Ctrl-C in the terminal is ours to handle.
            self._server = subprocess.Popen(  # noqa: S603 - the command comes from this package
                [str(part) for part in command],
                cwd=folder or log.parent,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                extra_groups=[] if user else None,
            )
        self._guard = subprocess.Popen(  # noqa: S603 - a constant script
            ["/bin/sh", "-c", _GUARD, "guard", stop_signal, str(self._server.pid), *map(str, leftovers)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def wait_until(
        self, answers: Callable[[], object], *not_yet: type[Exception], seconds: float = 60
    ) -> None:
        """Waits until a real request, made by `answers`, raises none of the errors in `not_yet`.

        Raises ServerError with the end of the server's log when it ends or takes longer.
        """
        deadline = time.monotonic() + seconds
        while True:
            ended = self._server.poll() is not None
            if not ended:
                try:
                    answers()
                    return
                except not_yet:
                    pass
            if ended or time.monotonic() > deadline:
                program = Path(str(self._server.args[0])).name  # type: ignore[index]
                what = f"ended with code {self._server.returncode}" if ended else "did not answer in time"
                tail = self._log.read_text(errors="replace")[-2000:]
                raise ServerError(f"{program} {what}; the end of its log:\n{tail}")
            time.sleep(0.05)

    def has_ended(self) -> bool:
        """Whether the server has ended by itself."""
        return self._server.poll() is not None

    def stop(self) -> None:
        """Ends the server and all that it started, and waits until they are gone."""
        self._guard.kill()
        self._guard.communicate()
        if self._server.poll() is None:
            self._server.send_signal(signal.Signals[f"SIG{self._stop_signal}"])
            try:
                self._server.wait(30)
            except subprocess.TimeoutExpired:
                self._server.kill()
        self._server.wait()
        self._end_what_it_started()
        for path in self._leftovers:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _end_what_it_started(self) -> None:
        """Ends what is left of its group: Dagster's daemon lets runs that are under way go on."""
        for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
            deadline = time.monotonic() + seconds
            if self._signal_group(number):
                while self._signal_group(0) and time.monotonic() < deadline:
                    time.sleep(0.05)

    def _signal_group(self, number: int) -> bool:
        """Whether anybody was there to be sent the signal."""
        with suppress(ChildProcessError):
            os.waitpid(-self._server.pid, os.WNOHANG)  # the first process of a container inherits orphans
        try:
            os.killpg(self._server.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:  # so says macOS when only their entries are left
            return False
        return True


def find_program(name: str, folders: Sequence[Path]) -> Path | None:
    """Where a program is installed: in one of these folders, or else on PATH."""
    for folder in folders:
        if os.access(folder / name, os.X_OK):
            return folder / name
    found = shutil.which(name)
    return Path(found) if found else None


_PORTS = range(20_000, 32_000)
"""Below those from which Linux and macOS take one for a connection that goes out, at any moment."""


def free_ports(count: int) -> list[int]:
    """That many different ports of 127.0.0.1 that nobody listened on a moment ago."""
    ports: list[int] = []
    with ExitStack() as stack:
        for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
            if len(ports) == count:
                break
            with suppress(OSError):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
                ports.append(port)
    return ports


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago."""
    return free_ports(1)[0]

"""A process that is told to end removes what it has not finished."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sgrace._util.signals import exit_on_terminate

PROGRAM = """
import signal, sys, time
from pathlib import Path
from sgrace._util.folders import new_folder
from sgrace._util.signals import exit_on_terminate

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
with exit_on_terminate(), new_folder(Path(sys.argv[1])) as partial:
    (partial / "weights").write_text("half")
    print("started", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_partial_folder(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "a" / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        assert (tmp_path / "a" / ".out.partial" / "out" / "weights").exists()
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_handlers_of_others_are_left_alone_and_ours_is_removed() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    terminate = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Ray leaves a handler behind
    try:
        with exit_on_terminate():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert callable(signal.getsignal(signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, terminate)


def test_other_threads_may_use_it() -> None:
    done: list[bool] = []

    def work() -> None:
        with exit_on_terminate():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]

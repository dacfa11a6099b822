"""Forks that live and die with their parent."""

import subprocess
import sys

from tests.running import ROOT

BESIDE = """
import psutil, time
from service.processes.forks import kept_running

with kept_running(lambda: time.sleep(60)):
    print(len(psutil.Process().children()))
"""


def test_a_kept_process_is_forked_before_anything_beside_it_can_be() -> None:
    # Else the one would hold open what tells the parent that the other has ended, and stopping the
    # service would wait until its patience is at an end.
    done = subprocess.run(
        [sys.executable, "-c", BESIDE], cwd=ROOT, check=True, capture_output=True, timeout=30
    )
    assert done.stdout == b"1\n"

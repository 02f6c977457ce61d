"""The soak of `make soak`, for some seconds: that it runs, and finds nothing."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.integration.servers import ROOT


def test_a_short_soak_finds_nothing_wrong_and_tells_where_the_memory_is() -> None:
    options = ["--seconds", "2", "--cycles", "2", "--scale", "0.2", "--seed", "1"]
    unmeasured = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", *options],
        cwd=ROOT,
        env=unmeasured,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("since the start") == 2
    assert done.stdout.endswith("nothing lost, doubled or left behind\n")

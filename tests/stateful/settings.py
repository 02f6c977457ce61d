"""How long hypothesis drives each machine."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A machine that is busy with something else must not make a test fail.
UNHURRIED = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)

"""How hypothesis looks for counterexamples here."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A machine that is busy with something else must not make a test fail.
settings.register_profile(
    "rooms", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("rooms")

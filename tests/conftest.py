"""What every test has in common. Fixtures stand beside the tests that use them."""

import os

from hypothesis import HealthCheck, settings

# The default suite is the same each time. `HYPOTHESIS_PROFILE=soak make test` looks further, and elsewhere.
settings.register_profile(
    "default",
    derandomize=True,
    deadline=None,  # a shared machine's pauses are not findings
    max_examples=60,
)
settings.register_profile(
    "soak",
    deadline=None,
    max_examples=5_000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

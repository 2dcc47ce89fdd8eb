"""What every test has in common. Fixtures stand beside the tests that use them."""

import os
import signal

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

# A shell without job control starts what it puts into the background deaf to ctrl-C, and so would be all that tests
# start, among it commands that are to be stopped by just that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

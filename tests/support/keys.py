"""The settings that tests of keys use, and the refusals that they expect."""

from __future__ import annotations

from sessionplane.domain.errors import AgentMismatch, FieldInvalid, KeyInvalid, LimitExceeded
from sessionplane.domain.keys import KeySettings

PLAIN = KeySettings()
HOME = KeySettings(main_key="home")
REFUSALS = (KeyInvalid, AgentMismatch, FieldInvalid, LimitExceeded)

"""What a person is told while a stream goes on by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .calls import say

if TYPE_CHECKING:
    from sessionplane_client import SessionPlaneError


class Outage:
    """Tells of a broken stream once, however many attempts it takes to go on."""

    def __init__(self) -> None:
        self._known = False

    def told(self, error: SessionPlaneError, _: float) -> None:
        """For `on_reconnect`. That the server renews every stream within the hour is no outage."""
        if error.reason == "MAX_AGE":
            return
        if not self._known:
            say(f"The stream broke and will go on by itself. {error}")
        self._known = True

    def over(self, _: object = None) -> None:
        """Something came."""
        self._known = False

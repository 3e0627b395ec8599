"""The search for a path's MTU: which size to try next, from what became of those before. Pure (RFC 8899, RFC 4821).

Sizes are bytes of whole IP packets. Three things can become of one: it was answered, a router reported it as too big,
or it vanished. The search first closes in on the largest that is answered. Where larger ones vanish, it goes on to the
smallest that vanishes, which may lie above sizes that are reported.
"""

from __future__ import annotations


class Search:
    """A search between a size that is known to pass and the largest that may be sent."""

    def __init__(self, passing: int, largest: int) -> None:
        #: The largest size that was answered.
        self.passing = passing
        self._largest = largest
        #: The smallest size that a router reported as too big, and the smallest that vanished; beyond the largest
        #: while there is none.
        self._too_big = largest + 1
        self._vanishing = largest + 1
        #: The largest size of which something was heard.
        self._heard = passing
        self._hint: int | None = None
        #: Smallest MTU that a router reported.
        self.reported: int | None = None

    @property
    def limited(self) -> bool:
        """Whether there is a size that does not pass."""
        return self._failing <= self._largest

    @property
    def vanishing(self) -> int | None:
        """The smallest size that vanished; None when none did."""
        return self._vanishing if self._vanishing <= self._largest else None

    @property
    def reported_next(self) -> bool:
        """Whether the size above the largest that was answered is one that a router reported."""
        return self._too_big == self.passing + 1

    def next_size(self) -> int | None:
        """Return the size to try, or None when both limits are found."""
        if self.passing + 1 < self._failing:
            return self._next_passing()
        if self.vanishing is not None and self._heard + 1 < self._vanishing:
            return (self._heard + self._vanishing) // 2
        return None

    def passed(self, size: int) -> None:
        """Take in that a size was answered, also one that was believed not to pass."""
        self.passing = max(self.passing, size)
        self._hear(size)
        if size >= self._too_big:
            self._too_big = self._largest + 1

    def too_big(self, size: int, reported: int | None) -> None:
        """Take in that a router reported a size as too big, and the MTU that it named, if any."""
        self._too_big = min(self._too_big, size)
        self._hear(size)
        # A value that does not fit is a mistake or a lie: old routers name none, and some name the packet's own size.
        if reported is not None and reported < size:
            self.reported = reported if self.reported is None else min(self.reported, reported)
            if reported > self.passing:
                self._hint = reported

    def vanished(self, size: int) -> None:
        """Take in that a size went unanswered as often as it takes."""
        self._vanishing = min(self._vanishing, size)

    @property
    def _failing(self) -> int:
        return min(self._too_big, self._vanishing)

    def _next_passing(self) -> int:
        hint, self._hint = self._hint, None
        if hint is not None and self.passing < hint < self._failing:
            return hint
        if not self.limited:
            return self._largest
        if self.reported == self.passing:
            return self.passing + 1  # the report is checked: the next larger one must fail
        return (self.passing + self._failing) // 2

    def _hear(self, size: int) -> None:
        self._heard = max(self._heard, size)
        if size >= self._vanishing:
            self._vanishing = self._largest + 1

"""Pictures of pages for the documents: of one size in pixels, however often they are taken."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from playwright.sync_api import Page, ViewportSize

Theme = Literal["light", "dark"]
SIZE: ViewportSize = {"width": 1440, "height": 900}
_QUALITY = 80


class Album:
    """Takes pictures of a window; without a folder it takes none, and does not wait for them either."""

    def __init__(self, page: Page, folder: Path | None) -> None:
        self._page = page
        self._folder = folder
        self._devtools = page.context.new_cdp_session(page)

    def grow(self, seconds: float) -> None:
        """Let charts grow until there is something to see."""
        if self._folder is not None:
            self._page.wait_for_timeout(1000 * seconds)

    def take(self, name: str, *, themes: Sequence[Theme] = ("light",)) -> None:
        """Take a picture of what the window shows; in another theme than the light one the name ends in its name."""
        if self._folder is None:
            return
        self._page.mouse.move(0, 0)
        for theme in themes:
            self._page.emulate_media(color_scheme=theme)
            self._page.wait_for_timeout(1000)
            # By this and not by `screenshot`, which makes no WebP.
            shot = self._devtools.send("Page.captureScreenshot", {"format": "webp", "quality": _QUALITY})
            suffix = "" if theme == "light" else f"-{theme}"
            (self._folder / f"{name}{suffix}.webp").write_bytes(base64.b64decode(shot["data"]))
        self._page.emulate_media(color_scheme="light")

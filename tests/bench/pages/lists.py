"""What a page can be asked for, found in it: each order, a search, filters, ranges, and what follows when somebody scrolls on."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode, urlsplit

#: What is searched for: part of many names and of few.
NEEDLES = ("0", "00042")


@dataclass
class _Found(HTMLParser):
    """The form of a list's filters, the links of a page, and the address of the rows that follow."""

    action: str = ""
    searches: list[str] = field(default_factory=list)
    #: Values of each choice.
    choices: dict[str, list[str]] = field(default_factory=dict)
    more: str = ""
    links: list[str] = field(default_factory=list)
    _select: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = given.get("action", "") if given.get("role") == "search" else ""
        elif tag == "input" and self.action and given.get("type") in ("search", "text"):
            self.searches.append(f"{self.action} {given['name']}")
        elif tag == "select" and self.action:
            self._select = f"{self.action} {given['name']}"
            self.choices.setdefault(self._select, [])
        elif tag == "option" and self._select:
            self.choices[self._select].append(given.get("value", ""))
        elif tag == "a":
            self.links.append(given.get("href", ""))
        elif "cursor=" in given.get("hx-get", ""):
            self.more = given["hx-get"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.action = ""
        elif tag == "select":
            self._select = ""


def variants(path: str, page: str) -> list[str]:
    """Return the addresses of a page that lead to itself otherwise: by its links and by the form of its filters.

    Of a list these are each search and order, and the first and the last choice of each filter.
    """
    found = _parsed(page)
    asked = [(place, needle) for place in found.searches for needle in NEEDLES]
    for place, values in found.choices.items():
        chosen = [value for value in values if value]
        ends = dict.fromkeys((*chosen[:1], *chosen[-1:]))
        asked += [(place, value) for value in (chosen if place.endswith(" sort") else ends)]
    links = (urlsplit(link) for link in found.links)
    addresses = [f"{link.path}?{link.query}" for link in links if link.path == path and link.query]
    for place, value in asked:
        action, _, name = place.partition(" ")
        addresses.append(f"{action}?{urlencode({name: value})}")
    return list(dict.fromkeys(addresses))


def following(page: str) -> str:
    """Return the address of the rows that follow those of a page, or of a part of one; empty at the end."""
    return _parsed(page).more


def _parsed(page: str) -> _Found:
    found = _Found()
    found.feed(page)
    return found

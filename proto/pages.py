"""Writes the pages of docs/reference/kinds: what the contract says of each kind, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from streamswarm import contract, manual
from streamswarm.manual import Page, Table

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference" / "kinds"
_MADE = "<!-- Made from the contract by `make proto`. Change the comments and options below proto/. -->"


def pages() -> Mapping[str, str]:
    """Return the text of each page by its file name."""
    found = {f"{kind.name}.md": markdown(manual.page(kind)) for kind in contract.kinds().values()}
    return {"README.md": _index(), **found}


def markdown(page: Page) -> str:
    """Return a kind's page as Markdown."""
    return "\n\n".join(_parts(page)) + "\n"


def write(folder: Path = FOLDER) -> None:
    """Write the pages, and remove those of kinds that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = pages()
    for path in folder.glob("*.md"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _index() -> str:
    rows = (
        f"| [{kind.name}]({kind.name}.md) | {_cell(kind.description)} |" for kind in contract.kinds().values()
    )
    return "\n".join(
        (_MADE, "", "# Kinds of test", "", "| kind | what it measures |", "|---|---|", *rows, "")
    )


def _parts(page: Page) -> Iterator[str]:
    yield _MADE
    yield f"# {page.title}"
    yield f"`{page.name}`: {page.summary}"
    yield from page.paragraphs
    for table in page.parameters:
        yield from _table(table, level=2)
    yield "## Metrics"
    yield "What was not measured stays unset: it is neither zero nor guessed."
    for table in page.metrics:
        yield from _table(table, level=3)


def _table(table: Table, *, level: int) -> Iterator[str]:
    yield f"{'#' * level} {table.title}"
    if table.text:
        yield table.text
    head = (f"| {' | '.join(table.columns)} |", f"|{'---|' * len(table.columns)}")
    rows = (f"| `{row[0]}` | {' | '.join(map(_cell, row[1:]))} |" for row in table.rows)
    yield "\n".join((*head, *rows))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

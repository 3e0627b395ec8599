"""What a token may do, asked before anything is done with it."""

from __future__ import annotations

from controller.cli.client import Client, RefusedError, UnreachableError
from controller.store.queries.users import Role, allows


def require(client: Client, needed: Role, what: str, *, without: str = "") -> None:
    """Raise RefusedError unless the client's token may do what the role `needed` is for.

    A controller that is away now refuses nothing: it tells when it is there. Where it must be there, `without` says how to go
    on without it, and it is UnreachableError.
    """
    try:
        found = client.get("/me")
    except UnreachableError as error:
        if without:
            raise UnreachableError(
                f"{error.message}; nothing was changed, as {what} needs it", mend=without
            ) from error
        return
    if not allows(found["role"], needed):
        raise RefusedError(
            f"{what} needs the role {needed}, and the token `{found['name']}` is of the role {found['role']}; nothing was "
            "changed",
            mend="use a token of that role; administrators make them on the dashboard",
        )

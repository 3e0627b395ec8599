"""Errors as answers: problem details (RFC 9457) in the API, styled pages in the browser."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from http import HTTPStatus

from flask import Flask, Response, jsonify, redirect, render_template, request, url_for
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.wrappers import Response as BaseResponse

from controller.errors import (
    ChangedError,
    ConfigurationError,
    ConflictError,
    DatabaseUnavailableError,
    NotFoundError,
    SchemaError,
    StreamSwarmError,
)
from controller.store.commands.logins import LockedError
from streamswarm.contract import InvalidInputError, Problem, UnknownKindError
from streamswarm.targets import shown

log = logging.getLogger(__name__)

API = "/api/"

_LOST = "look at the address, or begin at the overview"
_LOST_API = "look at the path and its ids; `/api/v1/openapi.json` has every call"
_RETRY_AFTER = {HTTPStatus.SERVICE_UNAVAILABLE: 5}
_TITLES = {
    HTTPStatus.BAD_REQUEST: "This request makes no sense",
    HTTPStatus.FORBIDDEN: "Your role does not allow this",
    HTTPStatus.NOT_FOUND: "There is nothing here",
    HTTPStatus.CONFLICT: "This cannot be done now",
    HTTPStatus.UNPROCESSABLE_ENTITY: "The input is not right",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many requests",
    HTTPStatus.INTERNAL_SERVER_ERROR: "Something went wrong on our side",
    HTTPStatus.SERVICE_UNAVAILABLE: "Not available just now",
}


class NotLoggedInError(Exception):
    """Nobody is logged in, or the token is no good; `message` says which."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ForbiddenError(StreamSwarmError):
    """Who asks may not do this."""


class VersionMissingError(StreamSwarmError):
    """A change does not say what it is based on."""


class TooManyRequestsError(Exception):
    """Who asks has asked too often; `retry_after_s` tells when to come back."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many requests")
        self.retry_after_s = retry_after_s


_STATUS: tuple[tuple[type[StreamSwarmError], HTTPStatus], ...] = (
    (VersionMissingError, HTTPStatus.PRECONDITION_REQUIRED),
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (ConflictError, HTTPStatus.CONFLICT),
    (LockedError, HTTPStatus.TOO_MANY_REQUESTS),
    (DatabaseUnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (SchemaError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ConfigurationError, HTTPStatus.SERVICE_UNAVAILABLE),
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """An error as it is answered."""

    status: HTTPStatus
    #: What happened, for people.
    message: str
    #: What to do; may be empty.
    mend: str = ""
    #: Every fault of an input.
    problems: tuple[Problem, ...] = ()
    #: Under which the log has more.
    reference: str = ""
    #: Seconds after which trying again makes sense.
    retry_after_s: int | None = None

    @property
    def title(self) -> str:
        """Heading of the page."""
        return _TITLES.get(self.status, self.status.phrase)


def init_app(app: Flask) -> None:
    """Answer every error in the form that suits the caller."""

    @app.errorhandler(NotLoggedInError)
    def not_logged_in(error: NotLoggedInError) -> BaseResponse:
        if _is_api():
            response = answer(Fault(status=HTTPStatus.UNAUTHORIZED, message=error.message))
            response.headers["WWW-Authenticate"] = 'Bearer realm="StreamSwarm"'
            return response
        return _to_login()

    @app.errorhandler(InvalidInputError)
    def invalid(error: InvalidInputError) -> BaseResponse:
        return answer(
            Fault(
                status=HTTPStatus.UNPROCESSABLE_ENTITY,
                message=str(error),
                problems=error.problems,
            )
        )

    @app.errorhandler(UnknownKindError)
    def unknown_kind(error: UnknownKindError) -> BaseResponse:
        return answer(Fault(status=HTTPStatus.NOT_FOUND, message=str(error)))

    @app.errorhandler(ForbiddenError)
    def forbidden(error: ForbiddenError) -> BaseResponse:
        return answer(Fault(status=HTTPStatus.FORBIDDEN, message=error.message, mend=error.mend))

    @app.errorhandler(TooManyRequestsError)
    def too_many(error: TooManyRequestsError) -> BaseResponse:
        return answer(
            Fault(
                status=HTTPStatus.TOO_MANY_REQUESTS,
                message="too many requests in the last minute",
                mend=f"try again in {error.retry_after_s} s",
                retry_after_s=error.retry_after_s,
            )
        )

    @app.errorhandler(CSRFError)
    def forged(error: CSRFError) -> BaseResponse:
        return answer(
            Fault(
                status=HTTPStatus.BAD_REQUEST,
                message=f"The form does not belong to this session: {error.description}",
                mend="go back, load the page again and repeat; scripts use a bearer token instead",
            )
        )

    @app.errorhandler(StreamSwarmError)
    def known(error: StreamSwarmError) -> BaseResponse:
        status = next(
            (status for kind, status in _STATUS if isinstance(error, kind)),
            HTTPStatus.INTERNAL_SERVER_ERROR,
        )
        if isinstance(error, ChangedError) and "If-Match" in request.headers:
            status = HTTPStatus.PRECONDITION_FAILED
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("%s %s: %s", request.method, shown(request.path, 200), error)
        return answer(Fault(status=status, message=error.message, mend=error.mend))

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> BaseResponse:
        if error.response is not None or error.code is None or error.code < 400:
            return error.get_response()
        fault = Fault(status=HTTPStatus(error.code), message=error.description or "")
        if isinstance(error, NotFound):
            fault = Fault(
                status=HTTPStatus.NOT_FOUND,
                message=f"there is nothing at `{shown(request.path, 200)}`",
                mend=_LOST_API if _is_api() else _LOST,
            )
        elif isinstance(error, MethodNotAllowed):
            allowed = ", ".join(sorted(error.valid_methods or ()))
            fault = Fault(
                status=HTTPStatus.METHOD_NOT_ALLOWED,
                message=f"`{shown(request.path, 200)}` does not take {shown(request.method, 20)}",
                mend=f"use one of {allowed}" if allowed else "",
            )
        response = answer(fault)
        for name, value in error.get_headers():
            if name.lower() == "allow":
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    def unknown(error: Exception) -> BaseResponse:
        reference = secrets.token_hex(4)
        log.error(
            "%s %s failed, reference %s",
            request.method,
            shown(request.path, 200),
            reference,
            exc_info=error,
        )
        return answer(
            Fault(
                status=HTTPStatus.INTERNAL_SERVER_ERROR,
                message="The request could not be answered because of a fault in the program.",
                reference=reference,
            )
        )


def answer(fault: Fault) -> Response:
    """Return a fault as problem details or as a page."""
    if _is_api():
        response = problem_details(fault)
    else:
        page = render_template(
            "errors/error.html",
            status=int(fault.status),
            title=fault.title,
            message=fault.message,
            mend=fault.mend,
            reference=fault.reference,
        )
        response = Response(page, mimetype="text/html")
    response.status_code = int(fault.status)
    retry = fault.retry_after_s or _RETRY_AFTER.get(fault.status)
    if retry:
        response.headers["Retry-After"] = str(retry)
    return response


def problem_details(fault: Fault) -> Response:
    """Return a fault in the form of RFC 9457."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": fault.status.phrase,
        "status": int(fault.status),
        "detail": fault.message,
    }
    if fault.mend:
        body["mend"] = fault.mend
    if fault.problems:
        body["errors"] = [{"path": problem.path, "message": problem.message} for problem in fault.problems]
    if fault.reference:
        body["reference"] = fault.reference
    response = jsonify(body)
    response.mimetype = "application/problem+json"
    return response


def _is_api() -> bool:
    return request.path.startswith(API)


def _to_login() -> BaseResponse:
    """Send the browser to the login, and back afterwards where that makes sense."""
    wanted = request.full_path.rstrip("?") if request.method == "GET" else None
    fragment = request.headers.get("HX-Request") == "true"
    if fragment:
        # A fragment of a page cannot be replaced by the login: the whole page goes there.
        response = Response(status=HTTPStatus.UNAUTHORIZED)
        response.headers["HX-Redirect"] = url_for("auth.login")
        return response
    if "text/event-stream" in request.headers.get("Accept", ""):
        return Response("Not logged in.\n", status=HTTPStatus.UNAUTHORIZED, mimetype="text/plain")
    return redirect(url_for("auth.login", next=wanted if wanted != "/" else None))

"""Headers and host names: what browsers may do with our pages, and under which names we answer."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from flask import Flask, Response, request
from werkzeug.exceptions import MisdirectedRequest
from werkzeug.middleware.proxy_fix import ProxyFix

from controller.settings import Settings
from streamswarm.targets import shown

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: over https the check against forged requests wants to see our own address.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_HSTS = "max-age=31536000"
#: Largest body that anything takes, bytes; the API takes less.
MAX_BODY = 1024 * 1024


def init_app(app: Flask, settings: Settings) -> None:
    """Believe exactly so many proxies, answer to known names only, and set the headers."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.config["MAX_FORM_PARTS"] = 500
    if settings.web_proxy_hops:
        hops = settings.web_proxy_hops
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    names = known_names(settings)

    @app.before_request
    def check_host() -> None:
        if not is_known_host(request.host, names):
            raise MisdirectedRequest(
                f"This dashboard does not answer under the name `{shown(request.host)}`. Name it in "
                "STREAMSWARM_WEB_URL or STREAMSWARM_WEB_HOSTS and start the dashboard again."
            )

    @app.after_request
    def set_headers(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if request.is_secure:
            response.headers.setdefault("Strict-Transport-Security", _HSTS)
        if request.endpoint != "static":
            response.headers.setdefault("Cache-Control", "no-store")
        return response


def known_names(settings: Settings) -> frozenset[str]:
    """Return the names under which the dashboard answers, beside plain addresses."""
    named = {"localhost", socket.gethostname().lower(), *(name.lower() for name in settings.web_hosts)}
    public = urlsplit(settings.public_web_url).hostname
    if public:
        named.add(public)
    return frozenset(named)


def is_known_host(host: str, names: frozenset[str]) -> bool:
    """Whether a Host header names us.

    A name that somebody else made point here (DNS rebinding) is refused; a plain address cannot be such a name.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name.removesuffix(".") in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

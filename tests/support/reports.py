"""The hour that reports of tests are about."""

from __future__ import annotations

import datetime as dt

#: A whole hour that lies in the past: what is due in it has settled.
HOUR = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
END = HOUR + dt.timedelta(hours=1)

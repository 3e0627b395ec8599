"""StreamSwarm's contract: what is asked of workers, what comes back, and everything derived from it."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("streamswarm")
except PackageNotFoundError:  # a worker's bundle is an unpacked tree whose metadata may have been left out
    __version__ = "0.0.0"

#: Grows with every change of the messages. A worker with a larger number than its gateway's is refused,
#: because fields that the gateway does not know would be lost silently.
CONTRACT_VERSION = 2
#: From this version on workers know cron, zones and windows. An older one would take such a job for one that is due
#: once, so it does not get it.
SCHEDULES_CONTRACT = 2

"""The gateway: holds the workers' sessions, hands them their jobs and stores their results.

gRPC's server credentials have no setting for the least TLS version. With certificates on elliptic curves a list
of cipher suites that names only RSA leaves nothing of TLS 1.2 to agree on; TLS 1.3 has suites of its own, which
the list does not touch. gRPC reads the variable when it is imported, so it is set here, before any module of
this package imports gRPC; `controller.gateway.server` checks on start that it took effect.
"""

import os

os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES128-GCM-SHA256"
#: Nothing here talks gRPC after a fork; without this every child process that is started writes a line of warning.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

"""The crash test: a workload against the running stack while Daily misbehaves and processes are killed, and a checker
that then compares our rows with what Daily saw and what callers were told. See docs/crash-test.md."""

import os

# Parts are started again while gRPC calls are in flight, about which gRPC would write a line each time.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

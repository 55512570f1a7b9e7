"""Tests, which start processes while their own gRPC streams are open."""

import os

# Else gRPC steps in between fork and exec, for children that would go on with it, and now and then aborts one of ours.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

"""The gRPC service. A request walks interceptors → servicer → a use case → storage and Daily, and back."""

import os

# gRPC reads it once, when it is imported. By its newer listener each event of a call wakes one more thread, and a lone
# call costs 40 % more (docs/decisions/0008-grpcs-older-listener.md).
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")

"""The gRPC face: it decodes, makes one service call, and encodes. Only here are grpc and the published stubs known."""

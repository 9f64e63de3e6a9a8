"""The limit for any unary call: a grpc.aio server whose handler does nothing but answer so many bytes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc

from jobsphere.api.tls import ensure_certificates, key_and_chain


class _Empty(grpc.GenericRpcHandler):
    def __init__(self, size: int) -> None:
        self._answer = bytes(size)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:  # noqa: ARG002
        async def handle(request: bytes, context: grpc.aio.ServicerContext) -> bytes:  # noqa: ARG001
            return self._answer

        return grpc.unary_unary_rpc_method_handler(handle)


async def main(tls_dir: Path, size: int) -> None:
    tls = ensure_certificates(tls_dir, ("127.0.0.1",))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Empty(size),))
    credentials = grpc.ssl_server_credentials([key_and_chain(tls.server_pem.read_bytes())])
    print(server.add_secure_port("127.0.0.1:0", credentials), flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))

"""A gRPC door that has no model: every chat is answered by "waiting" and then nothing more until the client hangs up. The few messages it
sends are written by hand, as protos/generation.proto numbers their fields.
"""

import concurrent.futures
import threading
import time

import grpc


def field(number, payload):
    """a field of text or of a message, shorter than 128 bytes"""
    return bytes([number << 3 | 2, len(payload)]) + payload


MODELS = field(2, field(1, b"fake"))  # data, id
CHUNK = field(6, field(2, field(2, b"waiting")))  # choices, delta, content


class FakeGrpc(grpc.GenericRpcHandler):
    def __init__(self):
        self.hung_up = threading.Event()
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        self.server.add_generic_rpc_handlers([self])
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def service(self, call):
        if call.method.endswith("/ListModels"):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: MODELS)
        return grpc.unary_stream_rpc_method_handler(self.answer)

    def answer(self, request, context):
        yield CHUNK
        while context.is_active():
            time.sleep(0.01)
        self.hung_up.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stop(None).wait()

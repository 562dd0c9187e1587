"""A gRPC client that speaks xDS itself: reads how many calls to make, a number a line, and answers each
line with a JSON object that counts replies (the backend's name) and failures (the status code)."""

import collections
import json
import sys

import grpc


def backend(reply):
    """The string in field 2 of an EchoReply whose other fields are empty."""
    return reply[2 : 2 + reply[1]].decode()


channel = grpc.insecure_channel(sys.argv[1])
say = channel.unary_unary(
    "/mesh.echo.v1.Echo/Say",
    request_serializer=lambda message: message,
    response_deserializer=lambda message: message,
)
for line in sys.stdin:
    seen = collections.Counter()
    for _ in range(int(line)):
        try:
            seen[backend(say(b"", timeout=10))] += 1
        except grpc.RpcError as error:
            seen[error.code().name] += 1
    print(json.dumps(seen), flush=True)

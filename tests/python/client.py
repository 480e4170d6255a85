"""A stock Python gRPC client, with nothing generated: every descriptor comes from the server's reflection.

client.py ADDRESS CA_FILE TOKEN_FILE: prints one JSON object with the services, the incidents that a watch begins with,
and what an export in each format held. tests/tests/python_client.rs says what it must print.
"""

import csv
import io
import json
import sys

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

# A watch never ends by itself: what is open now comes at once.
WATCH_SECONDS = 5


class Client:
    """One channel, and the methods that reflection tells of."""

    def __init__(self, address, ca_file, token_file):
        with open(ca_file, "rb") as ca, open(token_file, encoding="ascii") as token:
            credentials = grpc.ssl_channel_credentials(root_certificates=ca.read())
            bearer = grpc.access_token_call_credentials(token.read().strip())
        self.channel = grpc.secure_channel(
            address,
            grpc.composite_channel_credentials(credentials, bearer),
            options=[("grpc.ssl_target_name_override", "localhost")],
        )
        self.reflection = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = DescriptorPool(self.reflection)

    def services(self):
        """Names of the services, sorted."""
        return sorted(self.reflection.get_services())

    def stream(self, service, method, timeout, **fields):
        """Answers of a server-streaming method."""
        described = self.pool.FindServiceByName(service).FindMethodByName(method)
        request = message_factory.GetMessageClass(described.input_type)
        answer = message_factory.GetMessageClass(described.output_type)
        call = self.channel.unary_stream(
            f"/{service}/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,
        )
        return call(json_format.ParseDict(fields, request()), timeout=timeout)


def watch(client):
    """The changes that came until the deadline."""
    changes = []
    try:
        for change in client.stream("vedette.v1.QueryService", "WatchIncidents", WATCH_SECONDS):
            changes.append(json_format.MessageToDict(change))
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
            raise
    return changes


def export(client, file_format, layout):
    """The file's bytes."""
    parts = client.stream("vedette.v1.ExportService", "Export", 60, format=file_format, layout=layout)
    return b"".join(part.data for part in parts)


def main():
    """Asks, prints."""
    client = Client(*sys.argv[1:4])
    full = list(csv.DictReader(io.StringIO(export(client, "EXPORT_FORMAT_CSV", "EXPORT_LAYOUT_FULL").decode())))
    seed = list(csv.reader(io.StringIO(export(client, "EXPORT_FORMAT_CSV", "EXPORT_LAYOUT_SEED").decode())))
    lines = export(client, "EXPORT_FORMAT_JSONL", "EXPORT_LAYOUT_FULL").decode().splitlines()
    parquet = export(client, "EXPORT_FORMAT_PARQUET", "EXPORT_LAYOUT_FULL")
    json.dump(
        {
            "services": client.services(),
            "changes": watch(client),
            "csv_rows": len(full),
            "csv_cpu_usage_us": sum(int(row["cpu_usage_us"]) for row in full if row["cpu_usage_us"]),
            "jsonl_rows": len([json.loads(line) for line in lines]),
            "seed_header": seed[0],
            "seed_rows": len(seed) - 1,
            "parquet_is_parquet": parquet[:4] == b"PAR1" and parquet[-4:] == b"PAR1",
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()

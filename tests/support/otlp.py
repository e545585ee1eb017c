"""Collectors for OTLP logs, built on the published packages: what they accept is what any would.

    with GrpcCollector() as collector:            # grpcio's own server
        collector.script(Status(code, ...))       # then OK for ever
        ... collector.url ...; collector.wait_records(100)
    with OtlpHttpCollector() as collector:        # HTTP/1.1, protobuf or JSON (support/http_sink.py)

`records` holds a Record for each log record that was accepted, in order of arrival.
"""

import dataclasses
import threading
from concurrent import futures
from typing import Optional

import grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc

from support.http_sink import HttpSink


def plain(value):
    """What an AnyValue holds."""
    return getattr(value, value.WhichOneof("value"))


class Record:
    """One log record as it arrived; `resource` and `scope` are plain, and shared among many."""

    __slots__ = ("text", "attributes", "time_ns", "observed_ns", "severity", "resource", "scope")

    def __init__(self, record, resource, scope):
        self.text = record.body.string_value
        self.attributes = {pair.key: plain(pair.value) for pair in record.attributes}
        assert len(self.attributes) == len(record.attributes), "an attribute twice"
        self.time_ns = record.time_unix_nano
        self.observed_ns = record.observed_time_unix_nano
        self.severity = (record.severity_number, record.severity_text)
        self.resource = resource
        self.scope = scope


def records_of(request):
    records = []
    for logs in request.resource_logs:
        resource = {pair.key: plain(pair.value) for pair in logs.resource.attributes}
        for scoped in logs.scope_logs:
            scope = (scoped.scope.name, scoped.scope.version)
            records += [Record(record, resource, scope) for record in scoped.log_records]
    return records


def response(rejected=0, message=""):
    answer = logs_service_pb2.ExportLogsServiceResponse()
    if rejected or message:
        answer.partial_success.rejected_log_records = rejected
        answer.partial_success.error_message = message
    return answer


# --- HTTP ---


class OtlpHttpCollector(HttpSink):
    @property
    def records(self):
        return self.accepted

    def events_of(self, request):
        message = logs_service_pb2.ExportLogsServiceRequest()
        if request.content_type == "application/json":
            json_format.Parse(request.body.decode(), message)
        else:
            assert request.content_type == "application/x-protobuf"
            message.ParseFromString(request.body)
        return records_of(message)

    def wait_records(self, count, timeout=120):
        return self.wait_accepted(count, timeout)


# --- gRPC ---


@dataclasses.dataclass
class Status:
    code: int = 0
    message: str = ""
    retry_delay_ns: Optional[int] = None  # adds a RetryInfo
    rejected: int = 0  # with code 0


@dataclasses.dataclass
class Call:
    peer: str
    metadata: dict
    time_remaining: float
    records: list


class GrpcCollector(logs_service_pb2_grpc.LogsServiceServicer):
    def __init__(self, *, cert_file=None, key_file=None, client_ca=None, options=()):
        self.calls = []
        self.records = []
        self.policy = lambda records: None
        self._script = []
        self._changed = threading.Condition()
        self._server = grpc.server(futures.ThreadPoolExecutor(4), options=options)
        logs_service_pb2_grpc.add_LogsServiceServicer_to_server(self, self._server)
        if cert_file:
            read = [open(path, "rb").read() for path in (key_file, cert_file)]
            ca = open(client_ca, "rb").read() if client_ca else None
            credentials = grpc.ssl_server_credentials([tuple(read)], ca, bool(ca))
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
        else:
            port = self._server.add_insecure_port("127.0.0.1:0")
        self.url = f"{'https' if cert_file else 'http'}://127.0.0.1:{port}"

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(0).wait()

    def script(self, *statuses):
        """Answers for the next calls, one each; policy(records) speaks behind it, then OK."""
        with self._changed:
            self._script.extend(statuses)

    def wait(self, condition, timeout=120):
        with self._changed:
            assert self._changed.wait_for(condition, timeout), (
                f"not within {timeout} s: {len(self.calls)} calls, {len(self.records)} records"
            )

    def wait_records(self, count, timeout=120):
        self.wait(lambda: len(self.records) >= count, timeout)
        return self.records

    def Export(self, request, context):  # noqa: N802, the service's own name
        records = records_of(request)
        metadata = dict(context.invocation_metadata())
        with self._changed:
            self.calls.append(Call(context.peer(), metadata, context.time_remaining(), records))
            status = self._script.pop(0) if self._script else self.policy(records) or Status()
            if status.code == 0:
                self.records.extend(records)
            self._changed.notify_all()
        if status.code == 0:
            return response(status.rejected, status.message)
        if status.retry_delay_ns is not None:
            context.set_trailing_metadata([("grpc-status-details-bin", details(status))])
        code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
        context.abort(code, status.message)


def details(status):
    """A google.rpc.Status with a RetryInfo, behind a detail of another type."""
    whole = status_pb2.Status(code=status.code, message=status.message)
    whole.details.add().Pack(error_details_pb2.ErrorInfo(reason="TEST", domain="test"))
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromNanoseconds(status.retry_delay_ns)
    whole.details.add().Pack(info)
    return whole.SerializeToString()

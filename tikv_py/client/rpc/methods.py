"""Which store methods can travel in BatchCommands, and under which oneof field: read from the descriptors, never listed by hand.

A method and a field belong together when request and response types agree on both sides under one field number.
"""

from __future__ import annotations

from core_py.ports import Method, methods_of
from protos.kvproto import tikvpb_pb2

METHODS: dict[str, Method] = methods_of(tikvpb_pb2.DESCRIPTOR.services_by_name["Tikv"])


def _batch_fields() -> dict[str, str]:
    requests = tikvpb_pb2.BatchCommandsRequest.Request.DESCRIPTOR.fields
    responses = tikvpb_pb2.BatchCommandsResponse.Response.DESCRIPTOR.fields_by_number
    by_types = {}
    for wanted in requests:
        answer = responses.get(wanted.number)
        if answer is not None and wanted.message_type is not None and answer.message_type is not None:
            by_types[wanted.message_type.full_name, answer.message_type.full_name] = wanted.name
    found = {}
    for method in tikvpb_pb2.DESCRIPTOR.services_by_name["Tikv"].methods:
        field = by_types.get((method.input_type.full_name, method.output_type.full_name))
        if field is not None and not method.client_streaming and not method.server_streaming:
            found[method.name] = field
    return found


BATCH_FIELDS: dict[str, str] = _batch_fields()
"""Method name -> oneof field of both batch messages."""

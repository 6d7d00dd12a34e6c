"""Messages made at random of the protocol's descriptors, to every method of a running `coreml serve` over gRPC.

A status outside of `EXPECTED` fails, above all `INTERNAL` and `UNKNOWN`, which mean that the server was at a loss.
"""

from __future__ import annotations

import random
import struct
import time
from collections import Counter

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from tritonclient.grpc import service_pb2

MESSAGES = 3_000
PATIENCE = 30
SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
# Those of Triton's methods that this server has.
METHODS = ["ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"]
EXPECTED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}
NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: [0, 1, -1, 4, 2**31 - 1, -(2**31)],
    FieldDescriptor.CPPTYPE_INT64: [0, 1, 1, -1, 4, 4, 2**63 - 1, -(2**63)],
    FieldDescriptor.CPPTYPE_UINT32: [0, 1, 4, 2**32 - 1],
    FieldDescriptor.CPPTYPE_UINT64: [0, 1, 4, 2**64 - 1],
    FieldDescriptor.CPPTYPE_DOUBLE: [0.0, -1.5, 1e308, float("nan"), float("inf")],
    FieldDescriptor.CPPTYPE_FLOAT: [0.0, -1.5, 3e38, float("nan"), float("inf")],
    FieldDescriptor.CPPTYPE_BOOL: [False, True],
}
# Words that mean something in a field of this name; others are drawn too.
WORDS = {
    "model_name": ["relu", "rows", "none"],
    "name": ["relu", "rows", "none", "x", "y"],
    "version": ["", "1", "2", "x"],
    "model_version": ["", "1", "2", "x"],
    "datatype": ["FP32", "FP64", "INT32", "BYTES", "FP16", "BF16", "FP99"],
    "key": ["sequence_id", "sequence_start", "priority", "binary_data", "classification", "labels", "other"],
}
ANY_WORDS = ["", "é\u0000", "a" * 300, "../x", "1"]


class Maker:
    """Messages by their descriptors."""

    def __init__(self, seed: int, spare: str):
        self.random, self.spare = random.Random(seed), spare

    def message(self, of: Descriptor, depth: int = 0) -> Message:
        message = GetMessageClass(of)()
        for field in of.fields:
            if depth > 4 or self.random.random() < 0.4:
                continue
            if field.message_type and field.message_type.GetOptions().map_entry:
                self.fill_map(getattr(message, field.name), field.message_type, depth)
            elif field.is_repeated:
                values = getattr(message, field.name)
                for _ in range(self.random.choice([0, 1, 1, 2, 4])):
                    if field.message_type:
                        values.add().CopyFrom(self.message(field.message_type, depth + 1))
                    else:
                        values.append(self.scalar(field))
            elif field.message_type:
                getattr(message, field.name).CopyFrom(self.message(field.message_type, depth + 1))
            else:
                setattr(message, field.name, self.scalar(field))
        return message

    def fill_map(self, entries, entry: Descriptor, depth: int) -> None:
        for _ in range(self.random.choice([0, 0, 1, 2])):
            key, value = self.scalar(entry.fields_by_name["key"]), entry.fields_by_name["value"]
            if value.message_type:
                entries[key].CopyFrom(self.message(value.message_type, depth + 1))
            else:
                entries[key] = self.scalar(value)

    def scalar(self, field: FieldDescriptor):
        if field.enum_type:
            return self.random.choice(field.enum_type.values).number
        if field.cpp_type != FieldDescriptor.CPPTYPE_STRING:
            return self.random.choice(NUMBERS[field.cpp_type])
        word = self.random.choice(WORDS.get(field.name, []) * 3 + ANY_WORDS)
        return word.encode() if field.type == FieldDescriptor.TYPE_BYTES else word

    def infer(self) -> Message:
        """A right request in most of its fields, with parts of one made at random."""
        made = self.message(service_pb2.ModelInferRequest.DESCRIPTOR)
        if self.random.random() < 0.3:
            return made
        name = self.random.choice(["relu", "rows"])
        right = service_pb2.ModelInferRequest(model_name=name)
        tensor = right.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        values = [self.random.uniform(-2, 2) for _ in range(4)]
        if self.random.random() < 0.5:
            tensor.contents.fp32_contents.extend(values)
        else:
            right.raw_input_contents.append(struct.pack("<4f", *values))
        for field in self.random.sample(["id", "model_version", "parameters", "outputs", "inputs", "raw_input_contents"], self.random.choice([0, 1, 2, 3])):
            part = service_pb2.ModelInferRequest()
            part.CopyFrom(made)
            for other in part.DESCRIPTOR.fields:
                if other.name != field:
                    part.ClearField(other.name)
            right.MergeFrom(part)
        return right

    def call(self) -> tuple[str, Message]:
        if self.random.random() < 0.6:
            return "ModelInfer", self.infer()
        method = self.random.choice(METHODS)
        message = self.message(SERVICE.methods_by_name[method].input_type)
        if method.startswith("RepositoryModel"):
            # What the others ask for stays loaded.
            message.model_name = self.random.choice([self.spare, "none"])
        return method, message


def by_descriptors(address: str, spare: str) -> str:
    """Asks, and tells of it; an exception names the first message whose status is not expected."""
    maker = Maker(20_261_128, spare)
    statuses: Counter[str] = Counter()
    slowest = 0.0
    with grpc.insecure_channel(address) as channel:
        for number in range(MESSAGES):
            method, message = maker.call()
            answers = GetMessageClass(SERVICE.methods_by_name[method].output_type)
            call = channel.unary_unary(f"/{SERVICE.full_name}/{method}", request_serializer=lambda message: message.SerializeToString(), response_deserializer=answers.FromString)
            start = time.monotonic()
            try:
                call(message, timeout=PATIENCE)
                status, told = "OK", ""
            except grpc.RpcError as error:
                status, told = error.code().name, error.details()
            slowest = max(slowest, time.monotonic() - start)
            statuses[status] += 1
            if status not in EXPECTED or (status != "OK" and not told):
                raise AssertionError(f"message {number} to {method}: {status} {told!r}: {message}")
    if statuses["OK"] < 300 or statuses["INVALID_ARGUMENT"] < 300:
        raise AssertionError(f"the messages were not varied enough: {dict(statuses)}")
    return f"{MESSAGES} messages, by status {dict(statuses.most_common())}, the slowest took {slowest:.3f} s"

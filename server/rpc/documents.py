"""Resources as REST shows them, for who gets them otherwise: what Envoy's transcoder and rest.lua make of the same
messages."""

from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from server.rpc import convert
from storage.model import Participant, Recording, SessionRow


def resource(state: SessionRow | Participant | Recording) -> dict[str, Any]:
    """Under its name."""
    match state:
        case SessionRow():
            return {"session": _document(convert.session_row(state))}
        case Participant():
            return {"participant": _document(convert.participant(state))}
        case Recording():
            return {"recording": _document(convert.recording(state))}


def _document(message: Message) -> dict[str, Any]:
    shown = MessageToDict(message, always_print_fields_with_no_presence=True)
    document: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.json_name in shown:
            value = shown[field.json_name]
            document[field.json_name] = _three_digits(value) if field.name.endswith("_at") else value
        elif field.json_name == "endsAt":
            document["endsAt"] = None
    return document


def _three_digits(time: str) -> str:
    """Protobuf prints none, three, six or nine; ours are whole milliseconds."""
    return time if "." in time else f"{time[:-1]}.000Z"

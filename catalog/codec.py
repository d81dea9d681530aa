"""Commands as the log holds them, and outcomes as they travel: msgpack of the nouns as they stand.

Fields added later decode from older bytes by their defaults.
"""

from __future__ import annotations

import msgspec

from catalog.commands import CommandResult, Envelope
from cluster.errors import DqeError, error_from_fields

_encoder = msgspec.msgpack.Encoder()
_envelope_decoder = msgspec.msgpack.Decoder(Envelope)


class Outcome(msgspec.Struct, frozen=True):
    """A command's result or error: exactly one is set."""

    result: CommandResult | None = None
    error: dict[str, str | int] | None = None

    def unwrap(self) -> CommandResult:
        """The result; raises the error."""
        if self.error is not None:
            raise error_from_fields(self.error)
        assert self.result is not None
        return self.result


def outcome_of(result: CommandResult | DqeError) -> Outcome:
    """The outcome that `unwrap` turns back into `result`."""
    if isinstance(result, DqeError):
        return Outcome(error=result.to_fields())
    return Outcome(result=result)


def encode_envelope(envelope: Envelope) -> bytes:
    return _encoder.encode(envelope)


def decode_envelope(data: bytes | memoryview) -> Envelope:
    """The command; msgspec.DecodeError or ValidationError when the bytes are none."""
    return _envelope_decoder.decode(data)

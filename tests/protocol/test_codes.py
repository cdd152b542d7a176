"""Test that the codes of all session errors are listed, with the same fault."""

from streamasr import errors
from streamasr.errors import StreamasrError
from streamasr.protocol.codes import CLOSE_INTERNAL, ERROR_CODES, close_code

CONFIGURATION_ONLY = {"bad_config", "bad_model", "bad_data", "training_failed"}
"""Codes of errors that commands raise, but sessions do not."""


def test_session_errors_are_listed_with_their_fault() -> None:
    classes = [
        cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, StreamasrError)
    ]
    for cls in classes:
        if cls.code not in CONFIGURATION_ONLY:
            assert ERROR_CODES[cls.code].fault == cls.fault


def test_unknown_codes_close_as_internal_errors() -> None:
    assert close_code("overloaded") == 1013
    assert close_code("bad_model") == CLOSE_INTERNAL

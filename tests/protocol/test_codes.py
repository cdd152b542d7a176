"""Codes that errors carry are all in the list, with the fault that the list says."""

from streamasr import errors
from streamasr.protocol.codes import CLOSE_INTERNAL, ERROR_CODES, close_code

CONFIGURATION_ONLY = {"bad_config", "bad_model", "bad_data", "training_failed"}
"""Errors of commands and folders, never of a session."""


def test_session_errors_are_listed_with_their_fault() -> None:
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and hasattr(cls, "code")]
    for cls in classes:
        if cls.code not in CONFIGURATION_ONLY:
            assert ERROR_CODES[cls.code].fault == cls.fault


def test_unknown_codes_close_as_internal_errors() -> None:
    assert close_code("overloaded") == 1013
    assert close_code("bad_model") == CLOSE_INTERNAL

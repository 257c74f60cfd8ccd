"""A line for the test to read: `note` appends it to the file that the harness chose."""

import os


def note(text: str) -> None:
    descriptor = os.open(os.environ["TEST_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, text.encode() + b"\n")
    finally:
        os.close(descriptor)

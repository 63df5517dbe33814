"""Folders that a command puts pictures into."""

from __future__ import annotations

from pathlib import Path

from hinow_async._errors import ConfigurationError
from hinow_async._files import writable_folder


def check_folder(folder: Path) -> None:
    """Make the folder, and refuse one that cannot be written to, before anything is paid for.

    Raises:
        ConfigurationError: it cannot be used.
    """
    try:
        writable_folder(folder)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"the folder {folder} cannot be used: {reason}; nothing was sent") from None

"""The version, in one place: the build, `User-Agent` and `hinow --version` read it from here."""

__version__ = "0.1.0"

"""The version of this package; the document has a version of its own (`deepstruct.migrations`)."""

__version__ = "1.0.0"

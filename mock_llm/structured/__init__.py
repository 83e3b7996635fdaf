"""Instances of JSON Schemas: what a model answers that was told the shape of its answer."""

from mock_llm.structured.make import Hints, Uniform, instance
from mock_llm.structured.schema import Document, Unsatisfiable, document

__all__ = ["Document", "Hints", "Uniform", "Unsatisfiable", "document", "instance"]

from mock_llm.strict.complaint import FieldError, dotted, nearest, suggest
from mock_llm.strict.walk import convert

__all__ = ["FieldError", "convert", "dotted", "nearest", "suggest"]

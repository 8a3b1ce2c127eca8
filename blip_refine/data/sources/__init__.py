"""Where captions come from: one file for each data set or form of file, all yielding `CaptionRecord`."""

from .registry import load_source

__all__ = ["load_source"]

"""Captioners: loading, attention, adapters, decoding, scoring, and what a frozen encoder has said."""

import logging

# bitsandbytes, which transformers imports where it is installed, complains on some CPUs that a kernel for inference is
# to be had from the Hub.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

"""Where to compute, and in which precision."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import ConfigurationError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def best_device() -> torch.device:
    """A GPU if there is one."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device computes faster in bfloat16 than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # Any CPU can emulate it, slower than float32. AVX-512 BF16 alone is not enough either: 600 rows through a
        # linear layer of 768 to 3072 and back take 57 ms in float32, 91 ms with that, and 19 ms with AMX (torch 2.13).
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # newer releases of torch
        return bool(capabilities.get("amx_bf16"))
    return False


def resolve_dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype | None:
    """The precision to load weights in.

    Args:
        dtype (`torch.dtype` or `str`, *optional*): One, its name, "auto" for bfloat16 where the device computes in it
            and float32 elsewhere, or `None` to keep the file's.
        device (`torch.device`): Where the model will compute.
    """
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    if dtype not in DTYPES:
        raise ConfigurationError(f"There is no precision {dtype!r}; there are: auto, {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def usable_device(name: str | torch.device) -> torch.device:
    """A device, once something has been put on it: before a model is loaded for nothing."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
        return device
    except (RuntimeError, AssertionError) as error:  # torch raises either, by what is missing
        reason = " ".join(str(error).split()).rstrip(".")[:200]
        raise ConfigurationError(f"The device {str(name)!r} cannot be used here: {reason}.") from error

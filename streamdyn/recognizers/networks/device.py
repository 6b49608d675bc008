"""Which torch device a name means, and a clear refusal of one that is not there."""

from __future__ import annotations

import torch

from streamdyn.errors import RecognizerError


def torch_device(device: str, name: str) -> torch.device:
    """The device, for the recognizer `name`; the CPU is set to one thread.

    Raises:
        RecognizerError: There is no such device here; another one is never taken instead.
    """
    if device == "cpu":
        torch.set_num_threads(1)
        return torch.device("cpu")
    num_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if num_devices and device in ("cuda", *(f"cuda:{i}" for i in range(num_devices))):
        return torch.device(device)
    raise RecognizerError(
        f"recognizer {name!r} cannot run on device {device!r}: torch {torch.__version__} sees "
        f"{num_devices} CUDA devices here; use device='cpu'"
    )

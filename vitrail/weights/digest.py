"""The digest of a model: what its answers depend on, whatever file it came from."""

import hashlib
import json

import torch

from vitrail.core.config import to_json, without_later
from vitrail.models.build import Model


def digest_of(model: Model) -> str:
    """SHA-256 of all weights and the architecture, in hexadecimal."""
    digest = hashlib.sha256(json.dumps(without_later(to_json(model.config)), sort_keys=True).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

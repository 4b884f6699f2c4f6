"""Networks that no well-kept package offers; they import torch, so nothing imports them early."""

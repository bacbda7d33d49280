"""Raw files -> tensors. Nothing here knows a network."""

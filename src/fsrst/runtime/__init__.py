"""uint8 in, uint8 out, references set once: ``open_upscaler`` and its three backends."""

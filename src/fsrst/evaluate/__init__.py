"""Predict first, score second: networks write pictures, and the scorer knows nothing of networks."""

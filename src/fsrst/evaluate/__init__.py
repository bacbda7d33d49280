"""Predict first, score second: networks write pictures; the scorer knows nothing of networks."""

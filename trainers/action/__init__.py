"""Audio-visual action recognition with noisy labels and correspondence, on cached features."""

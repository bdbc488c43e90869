"""Data sets: protocols, readers, splits and the device loader; `base.py` is the way in."""

"""Cases for every type of layer of neural networks: `case.py` tells how they are written."""

"""The golden cases, one module for each family of operations; `make_cases.py` writes what they describe."""

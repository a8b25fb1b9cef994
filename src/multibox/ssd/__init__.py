"""The paper's method in torch, one idea a file (Liu et al. 2016, sections 2 and 3.1)."""

"""The paper's method in torch, one idea a file (Liu et al. 2016, sections 2, 3.1 and 3.7)."""

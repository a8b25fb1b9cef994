"""Is an imported or exported network the same one? Compared with a reference, in figures."""

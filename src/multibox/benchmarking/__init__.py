"""How fast a detector is: where the time goes, and how much of the processor is reached."""

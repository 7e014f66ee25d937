"""What a pass is asked and what it loses, the configuration of a run, the loop, and run folders."""

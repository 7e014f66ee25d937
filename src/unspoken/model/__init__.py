"""A trunk that reads a layout and predicts tokens; its cache, and what a prediction means."""

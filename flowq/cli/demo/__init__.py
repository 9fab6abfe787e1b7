"""``flowq demo``: a real flow on real input, run for real."""

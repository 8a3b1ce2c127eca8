"""The command line: `blip-refine`. One file a command; `main.py` puts them together."""

"""The command line: `blip-refine`. One file a command; `app.py` puts them together."""

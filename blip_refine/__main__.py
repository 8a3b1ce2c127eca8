"""`python -m blip_refine`: the same as `blip-refine`."""

from .cli.main import main

if __name__ == "__main__":
    main()

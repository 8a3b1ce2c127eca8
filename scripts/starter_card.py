"""Write MODEL_CARD.md from the embedded starter's own files, or check that it is up to date.

python scripts/starter_card.py            # write it
python scripts/starter_card.py --check    # exit with 1 if it is not what would be written
"""

from __future__ import annotations

import sys
from pathlib import Path

from blip_refine.hub.card import is_up_to_date, write_model_card

ROOT = Path(__file__).resolve().parent.parent
STARTER, CARD = ROOT / "blip_refine" / "starter", ROOT / "MODEL_CARD.md"

if __name__ == "__main__":
    if "--check" in sys.argv:
        if not is_up_to_date(STARTER, CARD):
            sys.exit("MODEL_CARD.md is not what its generator writes. Run: make card")
    else:
        print(write_model_card(STARTER, output=CARD))

"""Training: arguments, the trainer and its callbacks, checkpoints, memory, and checks of a set-up."""

from .. import models as models  # before transformers: it keeps bitsandbytes quiet

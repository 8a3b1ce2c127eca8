"""Get a published dataset, or SPICE's parser, from its official place."""

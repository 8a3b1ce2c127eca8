"""Pages and entry points that stand on everything else."""

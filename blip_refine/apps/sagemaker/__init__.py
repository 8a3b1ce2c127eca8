"""Entry points for Amazon SageMaker: training with spot resumption, and an endpoint."""

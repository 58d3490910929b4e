"""What operations are recorded as: metrics, and the pipelines that export them."""

"""What runs beside the flow of images: retention, sweeping, backup."""

"""Work beside the flow of images: retention and backup."""

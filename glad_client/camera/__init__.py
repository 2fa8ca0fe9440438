"""What sends the images of a folder: a line camera at a fixed rate, and a hot folder that sends what appears in it."""

from glad_client.camera.destination import Destination, Labels, NameDoesNotMatch
from glad_client.camera.hot_folder import HotFolder
from glad_client.camera.line_camera import CameraReport, CameraShot, LineCamera, find_images

__all__ = [
    "CameraReport",
    "CameraShot",
    "Destination",
    "HotFolder",
    "Labels",
    "LineCamera",
    "NameDoesNotMatch",
    "find_images",
]

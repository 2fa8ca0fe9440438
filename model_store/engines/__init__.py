"""The Protocols of glad.protocols, one backend per module. Importing this package loads none of them."""

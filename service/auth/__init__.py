"""The door: who may call, how often, and what every answer says to browsers."""

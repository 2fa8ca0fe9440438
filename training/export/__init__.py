"""Exports of a bundle's models to other engines, each proven equal before it is used."""

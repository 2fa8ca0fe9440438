"""GLAD_POOLS: which worker pool inspects which products. What it does not name belongs to GLAD_POOL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

from model_store.manifest import Name

FORM = "pool=product,product pool=product ..."


def split_pools(given: object) -> object:
    """Pools and their products apart, of the environment's one text; ValueError if it has another form."""
    if not isinstance(given, str):
        return given
    found: dict[str, list[str]] = {}
    for word in given.split():
        pool, equals, products = word.partition("=")
        if not equals or not pool or not all(products.split(",")):
            raise ValueError(f"{word!r} is no pool with its products: write {FORM}, without spaces at = and ,")
        if pool in found:
            raise ValueError(f"pool {pool!r} stands there twice: name all its products at once")
        found[pool] = products.split(",")
    return found


def check_pools(given: dict[Name, tuple[Name, ...]]) -> dict[Name, tuple[Name, ...]]:
    """Each product has one pool; else ValueError."""
    pool_of: dict[str, str] = {}
    for pool, products in given.items():
        if not products:
            raise ValueError(f"pool {pool!r} has no product: name at least one, or leave the pool out")
        for product in products:
            if pool_of.setdefault(product, pool) != pool:
                raise ValueError(f"product {product!r} is in pools {pool_of[product]!r} and {pool!r}: choose one")
    return given


Pools = Annotated[dict[Name, tuple[Name, ...]], NoDecode, BeforeValidator(split_pools), AfterValidator(check_pools)]


def pool_of(product: str, pools: Mapping[str, tuple[str, ...]], rest: str) -> str:
    """The pool that inspects a product; `rest` inspects what no pool names."""
    return next((pool for pool, products in pools.items() if product in products), rest)

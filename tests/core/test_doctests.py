"""Every example in a docstring runs, and every router and block of experts has one."""

import doctest
import importlib
import pkgutil

import collegium
import pytest
from collegium import experts, routers
from collegium.experts import Experts
from collegium.routers import Router
from collegium.testing import exported

MODULES = ["collegium", *(found.name for found in pkgutil.walk_packages(collegium.__path__, "collegium."))]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("block", [*exported(routers, Router).values(), *exported(experts, Experts).values()])
def test_every_block_shows_an_example(block: type) -> None:
    assert doctest.DocTestFinder().find(block, block.__name__, globs={})[0].examples

"""The policies of the configuration are those of the packer: none is missing, none is made up."""

from __future__ import annotations

from dataclasses import fields

import pytest

from models.catalog.errors import WrongValue
from models.catalog.policies import described, registries
from models.catalog.service import DefragBudget, PolicyNames, PoolSettings, ServiceConfig
from packers.decide import Policies
from packers.defrag.moves import Budget
from packers.types import PoolKind


def test_every_policy_of_the_packer_can_be_configured_and_nothing_else():
    assert set(PolicyNames.model_fields) == {field.name.removesuffix("_s") for field in fields(Policies)}


def test_left_out_they_are_the_packers_own():
    assert PolicyNames().policies() == Policies()


def test_every_part_of_the_budget_can_be_configured():
    given = {"moves": 3, "moved": "2GiB", "payback": "5m", "settle": "1m", "busy": True}
    assert set(given) == set(DefragBudget.model_fields)
    of_one_run = {"at_once", "stay"}
    assert len(given) == len({field.name for field in fields(Budget)} - of_one_run)
    assert DefragBudget.model_validate(given).budget() == Budget(
        moves=3, moved_bytes=2**31, payback_s=300.0, settle_s=60.0, busy=True
    )
    assert DefragBudget().budget() == Budget()


def test_policies_are_described_setting_by_setting():
    found = described(Policies(look_at=5))
    assert found["look_at"] == 5
    assert found["defrag_budget.moves"] == Budget().moves
    assert all(value is None or isinstance(value, str | float | int) for value in found.values())


def test_every_name_of_every_registry_is_taken():
    for field, names in registries().items():
        for name in names:
            assert getattr(PolicyNames(**{field: name}).policies(), field) == name


def test_every_named_policy_has_a_registry():
    named = {field.name for field in fields(Policies) if isinstance(field.default, str)}
    assert named == set(registries())


def test_an_unknown_name_is_refused_with_a_guess():
    with pytest.raises(ValueError, match="not a placement policy") as caught:
        PolicyNames(placement="best_fti")
    (problem,) = caught.value.errors()  # type: ignore[attr-defined]
    cause = problem["ctx"]["error"]
    assert isinstance(cause, WrongValue)
    assert cause.cure == "did you mean best-fit?"


def test_pools_are_read_from_the_configuration():
    config = ServiceConfig.model_validate(
        {"pools": [{"name": "cheap", "kind": "spot", "price_per_gpu_hour": 1, "gpus": ["a/*"]}], "models": []}
    )
    assert config.pools == (PoolSettings(name="cheap", kind=PoolKind.SPOT, price_per_gpu_hour=1.0, gpus=("a/*",)),)

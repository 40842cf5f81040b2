"""The file of `tenants apply`: read with the path of what is wrong in it, and written by `tenants export`."""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli.errors import AskedWrongly
from gateway.cli.output import say, show_json, show_table, show_text

if TYPE_CHECKING:
    from gateway.tenancy_documents import Applied
    from gateway.tenancy_file import TenancyFile
    from models.store.tenants import Tenancy


def read_file(path: Path) -> TenancyFile:
    """JSON is YAML, too. Raises AskedWrongly with everything that is wrong, by line and field."""
    from pydantic import ValidationError

    from gateway.tenancy_file import TenancyFile
    from models.catalog.errors import ConfigError
    from models.catalog.problems import problems_of
    from models.catalog.yaml_file import read_yaml

    try:
        document = read_yaml(path, str(path))
        try:
            return TenancyFile.model_validate(document.data)
        except ValidationError as wrong:
            raise ConfigError(tuple(problems_of(wrong, TenancyFile, document))) from None
    except ConfigError as wrong:
        fields = [
            {"field": problem.field, "line": problem.line, "message": problem.message} for problem in wrong.problems
        ]
        raise AskedWrongly(str(wrong), code="invalid_file", details={"problems": fields}) from None


def show_applied(applied: Applied, *, json: bool) -> None:
    from gateway.cli.store_access import plain

    if json:
        show_json(plain(applied))
        return
    rows = ((one.path, one.before, one.after) for one in applied.differences)
    show_table(("FIELD", "WAS", "IS"), rows, "Nothing changes.")
    for url, secret in applied.new_secrets.items():
        if not applied.dry_run:
            say(f"payloads to {url} are signed with this secret, which is shown this once:")
            show_text(secret)
    if applied.differences:
        say("nothing was changed: a dry run" if applied.dry_run else f"{len(applied.differences)} fields are changed")


def show_exported(known: Tenancy, *, json: bool) -> None:
    found = exported(known)
    if json:
        print(json_module.dumps(found, indent=2, ensure_ascii=False))
        return
    import yaml

    show_text(yaml.safe_dump(found, sort_keys=False, allow_unicode=True).rstrip())


def exported(known: Tenancy) -> dict[str, Any]:
    """As ``read_file`` takes it; what is as usual is left out, and so are secrets and what was blocked by hand."""
    from models.store.tenancy import HouseRecord, ProjectRecord, TenantRecord

    house = _unusual(known.house, HouseRecord(), ("price_lists", "version", "webhooks", "blocks"))
    house["webhooks"] = [_without(_plain(hook), "secret") for hook in known.house.webhooks]
    house["blocks"] = [_without(_plain(block), "since_unix_s") for block in known.house.blocks]
    tenants = {}
    for name in sorted(known.tenants):
        tenant = known.tenants[name]
        section = _unusual(tenant, TenantRecord(tenant_id=name), ("projects", "created_unix_s", "blocked"))
        projects = {
            project: _unusual(one, ProjectRecord(name=project), ("name", "blocked"))
            for project, one in tenant.projects.items()
        }
        tenants[name] = section | ({"projects": projects} if projects else {})
    prices = {name: [_price(line) for line in one.lines] for name, one in sorted(known.house.price_lists.items())}
    return {"house": house, "prices": prices, "tenants": tenants}


def _unusual(record: Any, usual: Any, apart: tuple[str, ...]) -> dict[str, Any]:
    from models.store.limit_text import limit_text
    from models.store.tenancy import LimitRule

    found: dict[str, Any] = {}
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if name in apart or value == getattr(usual, name):
            continue
        if isinstance(value, tuple) and value and isinstance(value[0], LimitRule):
            found[name] = [limit_text(rule) for rule in value]
        else:
            found[name] = _some(_plain(value))
    return found


def _price(line: Any) -> dict[str, Any]:
    from decimal import Decimal

    found = {name: getattr(line, name) for name in line.__struct_fields__}
    kept = {name: value for name, value in found.items() if value or (name == "cached_token" and value is not None)}
    return {name: format(value, "f") if isinstance(value, Decimal) else value for name, value in kept.items()}


def _some(value: Any) -> Any:
    return {name: part for name, part in value.items() if part is not None} if isinstance(value, Mapping) else value


def _plain(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)


def _without(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {field: value for field, value in record.items() if field != name and value is not None}

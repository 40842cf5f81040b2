"""The placement policies by name. ``Placer(cluster, RULES["ours"], mix)`` decides with one."""

from __future__ import annotations

from packers.placement.best_fit import BestFit
from packers.placement.dot_product import DotProduct
from packers.placement.fgd import Fgd
from packers.placement.first_fit import FirstFit
from packers.placement.ours import Ours
from packers.placement.rule import Rule

RULES: dict[str, Rule] = {rule.name: rule for rule in (BestFit(), DotProduct(), Fgd(), FirstFit(), Ours())}

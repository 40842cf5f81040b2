from tests.gateway.kept_world import kept_world

__all__ = ["kept_world"]

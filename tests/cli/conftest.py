from cli_shop import shop
from workers import site

__all__ = ("shop", "site")
